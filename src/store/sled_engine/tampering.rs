//! What somebody does to the files of a closed store who can write the disk and knows how
//! rows stand in it. For tests of what must notice it.

use std::path::Path;

use super::database::{Kind, Presence, Site};
use super::encoding::{BLOCKS, decode_block, encode_block, tree_name};
use super::engine::{Bytes, Engine, Tree, TreeWrites};
use super::placement::database_name;
use super::{KEYRING, SYSTEM};
use crate::store::{PlacedBlock, Space};

/// A row that holds a block of a chain, or what was made of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredBlock {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

impl StoredBlock {
    pub(crate) fn of(placed: &PlacedBlock) -> Self {
        let (key, value) = encode_block(placed);
        Self { key: key.to_vec(), value: value.to_vec() }
    }

    /// Of one that nobody has tampered with.
    pub(crate) fn placed(&self) -> PlacedBlock {
        decode_block(&self.key, &self.value).unwrap()
    }
}

/// The rows of a chain, in their order.
pub(crate) fn chain_rows(store: &Path, space: Space) -> Vec<StoredBlock> {
    let (_engine, tree) = open(store, space);
    rows(&tree)
}

/// Puts other rows in the place of those of a chain.
pub(crate) fn replace_chain_rows(store: &Path, space: Space, with: &[StoredBlock]) {
    let (engine, tree) = open(store, space);
    let removed = rows(&tree).into_iter().map(|row| (Bytes::from(row.key), None));
    let put = with
        .iter()
        .map(|row| (Bytes::from(row.key.as_slice()), Some(Bytes::from(row.value.as_slice()))));
    let writes = removed.chain(put).collect();
    Engine::apply(&[TreeWrites { tree, writes }]).unwrap();
    engine.flush().unwrap();
}

/// Of a small store, whose tenants are all in the first database.
fn open(store: &Path, space: Space) -> (Engine, Tree) {
    let (name, kind) = match space {
        Space::System => (SYSTEM.to_owned(), Kind::System),
        Space::Keyring => (KEYRING.to_owned(), Kind::Keyring),
        Space::Tenant(_) => (database_name(0), Kind::Tenants),
    };
    let (site, _) = Site::find(store, &name, kind, Presence::Required, 1 << 20).unwrap();
    let engine = Engine::open(&site.path(), site.cache_bytes).unwrap();
    assert!(engine.has_tree(&tree_name(space)), "{space} is in {name}");
    let tree = engine.tree(&tree_name(space)).unwrap();
    (engine, tree)
}

fn rows(tree: &Tree) -> Vec<StoredBlock> {
    let mut rows = Vec::new();
    let visited = tree.visit(BLOCKS, |key, value| {
        let is_block = key.starts_with(BLOCKS);
        if is_block {
            rows.push(StoredBlock { key: key.to_vec(), value: value.to_vec() });
        }
        Ok(is_block)
    });
    visited.unwrap();
    rows
}
