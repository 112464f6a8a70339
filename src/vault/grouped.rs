//! A tenant's rows in an order that lets each secret be judged by itself: a head,
//! the rows of its value, the next head, and after all of them the expiry index.
//!
//! Heads, with the small values beside them, and large values both sort by locator, so
//! two cursors of one snapshot merge. It holds two pages, whatever the tenant holds.

use std::collections::VecDeque;

use super::layout::{EXPIRY_PREFIX, HEAD_PREFIX, VALUE_PREFIX};
use crate::store::{Row, RowKey, Snapshot, Space, Store, StoreError};

/// Rows outside of these belong to nothing this version knows.
const PREFIXES: [&[u8]; 3] = [HEAD_PREFIX, VALUE_PREFIX, EXPIRY_PREFIX];
const HEADS: usize = 0;
const VALUES: usize = 1;
const EXPIRIES: usize = 2;

pub(super) struct Grouped {
    snapshot: Box<dyn Snapshot>,
    heads: Cursor,
    values: Cursor,
    expiries: Cursor,
}

/// What was read of one prefix and not passed on.
struct Cursor {
    number: usize,
    rows: VecDeque<(RowKey, Row)>,
    more: bool,
}

impl Grouped {
    /// The space of a tenant as it is now.
    pub(super) async fn of(store: &dyn Store, space: Space) -> Result<Self, StoreError> {
        let snapshot = store.snapshot(space, &PREFIXES).await?;
        let cursor = |number| Cursor { number, rows: VecDeque::new(), more: true };
        Ok(Self {
            snapshot,
            heads: cursor(HEADS),
            values: cursor(VALUES),
            expiries: cursor(EXPIRIES),
        })
    }

    /// The sealed ledger of just these rows.
    pub(super) fn ledger(&self) -> Option<&[u8]> {
        self.snapshot.ledger()
    }

    pub(super) async fn next(&mut self) -> Result<Option<(RowKey, Row)>, StoreError> {
        let snapshot = &mut *self.snapshot;
        self.heads.fill(snapshot).await?;
        self.values.fill(snapshot).await?;
        let first = match (self.heads.rows.front(), self.values.rows.front()) {
            (Some((head, _)), Some((value, _))) if locator(value) < locator(head) => {
                &mut self.values
            }
            (Some(_), _) => &mut self.heads,
            (None, Some(_)) => &mut self.values,
            (None, None) => {
                self.expiries.fill(snapshot).await?;
                &mut self.expiries
            }
        };
        Ok(first.rows.pop_front())
    }
}

/// What follows the letter of a key: for heads and values it begins with the
/// locator.
fn locator(key: &RowKey) -> &[u8] {
    let rest = key.as_bytes().get(1..).unwrap_or_default();
    rest.get(..32).unwrap_or(rest)
}

impl Cursor {
    async fn fill(&mut self, snapshot: &mut dyn Snapshot) -> Result<(), StoreError> {
        while self.rows.is_empty() && self.more {
            let page = snapshot.next(self.number).await?;
            self.more = page.more;
            self.rows = page.rows.into();
        }
        Ok(())
    }
}
