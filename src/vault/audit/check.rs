//! Whether a chain is what was appended to it, all of it and in its order.
//!
//! The ledger has the last link, under a seal. The links beside the blocks take no key,
//! so they prove nothing; but where somebody altered a block and not those, they tell
//! which one it is.

use crate::api::admin::VerifiedPart;
use crate::store::{Chain, PlacedBlock, Space, StoreError};

use super::super::Vault;
use super::super::keyring::SpaceKeys;
use super::super::pace::Pace;
use super::super::seal::{SpaceSeal, ledger_of};
use super::checkpoint::{Walk, is_piece};

/// Follows the chain of a space up to where its ledger says that it ends, and tells the
/// first entry that is not as it was. What is appended meanwhile is beyond that.
pub(in crate::vault) async fn check(
    vault: &Vault,
    space: Space,
    (keys, seal): (&SpaceKeys, &SpaceSeal),
    part: &mut VerifiedPart,
    pace: &mut Pace,
) -> Result<(), StoreError> {
    // One that does not open was told already.
    let Some(ledger) = ledger_of(&*vault.store, space, seal).await? else { return Ok(()) };
    let end = ledger.chain;
    let mut chain = ledger.kept_from;
    let mut walk = Walk::from(space, chain.next);
    while chain.next < end.next {
        let blocks = match walk.next(&*vault.store).await {
            Err(StoreError::Corrupted { what }) => {
                part.fault(format!(
                    "{what} is corrupted, behind entry {} of the audit",
                    chain.next
                ));
                return Ok(());
            }
            blocks => blocks?,
        };
        let Some(blocks) = blocks else { break };
        for placed in blocks.iter().filter(|placed| placed.first < end.next) {
            match follow(chain, placed, keys, seal) {
                Ok(next) => chain = next,
                Err(fault) => {
                    part.fault(fault);
                    return Ok(());
                }
            }
        }
        pace.passed(blocks.len() as u64).await;
    }
    if let Some(fault) = compare(chain, end) {
        part.fault(fault);
    }
    Ok(())
}

/// The chain after this block, or a sentence on why it is not the next one.
fn follow(
    chain: Chain,
    placed: &PlacedBlock,
    keys: &SpaceKeys,
    seal: &SpaceSeal,
) -> Result<Chain, String> {
    let PlacedBlock { first, link, block } = placed;
    if *first != chain.next {
        return Err(format!("entry {} of the audit is missing", chain.next));
    }
    let next = chain.with(block, seal);
    if next.head != *link {
        return Err(format!(
            "entry {first} of the audit was altered, or stands in another's place"
        ));
    }
    if is_piece(&block.bytes) {
        return Ok(next);
    }
    match keys.anchor.audit().read(&block.bytes) {
        Ok(entries) if entries.len() as u64 == u64::from(block.entries.get()) => Ok(next),
        _ => Err(format!("entry {first} of the audit does not decrypt")),
    }
}

fn compare(chain: Chain, end: Chain) -> Option<String> {
    if chain.next != end.next {
        return Some(format!(
            "the audit was cut off: entry {} is missing, and so is all up to entry {}",
            chain.next,
            end.next.saturating_sub(1)
        ));
    }
    (chain.head != end.head)
        .then(|| "the audit is not the one that was written: entries were exchanged".to_owned())
}
