//! Lists, page by page: sorted names of what is stored and not expired, and that
//! the caller may read.
//!
//! A list is not a picture of one moment. A name that is there throughout is in
//! it exactly once; one that comes or goes meanwhile may be in it or not.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::api::secret::SecretState;
use crate::auth::ListPermit;
use crate::domain::{NamePrefix, Now, SecretName, SecretNames, ValidityWindow, WindowState};
use crate::measure::{self, Lookup};

use super::heads::{Entry, Look, Place, Window};
use super::tenant::Tenant;
use super::{Vault, VaultError};

/// How many names a list looks at before it lets others go on.
const SLICE: usize = 4_096;

/// Which names.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    pub prefix: NamePrefix,
    /// Only names that sort after this one.
    pub after: Option<SecretName>,
    pub limit: PageSize,
    /// Only secrets that expire within so long a time.
    pub expiring_within: Option<Duration>,
    pub shows: Shows,
}

/// What a list tells of each secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shows {
    #[default]
    Names,
    Details,
}

/// How many names a page may hold: 1 to 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(u16);

impl PageSize {
    pub const MAX: Self = Self(10_000);

    pub fn new(names: u16) -> Option<Self> {
        (1..=Self::MAX.0).contains(&names).then_some(Self(names))
    }

    pub fn get(self) -> u16 {
        self.0
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self::MAX
    }
}

#[derive(Debug)]
pub struct ListPage {
    pub names: SecretNames,
    /// Of each name, where they were asked for.
    pub details: Option<Vec<Detail>>,
    /// Whether names remain after the last one.
    pub more: bool,
}

/// What a list knows of a secret beside its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detail {
    pub version: u64,
    pub window: ValidityWindow,
    /// At the moment of the list.
    pub state: SecretState,
}

impl ListRequest {
    /// Where its names begin.
    fn start(&self) -> Place {
        let prefix = Place::before(self.prefix.as_str());
        self.after.as_ref().map(Place::after).map_or(prefix.clone(), |after| after.max(prefix))
    }

    /// Whether a secret with this window is among those asked for.
    fn wants(&self, window: ValidityWindow, now: Now) -> bool {
        self.expiring_within.is_none_or(|span| {
            let horizon = now.for_expiry().saturating_add(span);
            window.expires_on().is_some_and(|end| end <= horizon)
        })
    }

    /// Whether no name from `place` on has the prefix.
    fn ends_before(&self, place: &Place) -> bool {
        let (prefix, place) = (self.prefix.as_str(), place.as_str());
        place > prefix && !place.starts_with(prefix)
    }
}

impl Vault {
    /// The next page of names.
    pub async fn list(
        &self,
        permit: &ListPermit,
        request: &ListRequest,
        now: Now,
    ) -> Result<ListPage, VaultError> {
        let tenant = self.tenant(permit.tenant())?;
        tenant.heads.touch(self.list_ticks.fetch_add(1, Ordering::Relaxed));
        let details = (request.shows == Shows::Details).then(Vec::new);
        let page = ListPage { names: SecretNames::default(), details, more: false };
        let lookup = Lookup::Hit;
        let mut draft = Draft { permit, request, now, page, lookup };
        self.walk(&tenant, &mut draft).await?;
        measure::list_looked_up(draft.lookup);
        self.trim_list_caches(&tenant);
        Ok(draft.page)
    }

    /// From block to block, and from window to window.
    async fn walk(&self, tenant: &Tenant, draft: &mut Draft<'_>) -> Result<(), VaultError> {
        let (mut place, mut seen) = (draft.request.start(), 0);
        // What was filled for this list stays with it: others may need the memory
        // the next moment, and this one must get on.
        let mut filled: Option<Window> = None;
        while !draft.request.ends_before(&place) {
            let look = tenant.heads.look(&place);
            let look = look.or_else(|| filled.as_ref().and_then(|window| window.look(&place)));
            let Some(Look { block, next }) = look else {
                // What it held is counted until then.
                drop(filled.take());
                draft.lookup = Lookup::Miss;
                filled = Some(self.fill_window(tenant, &place, draft).await?);
                continue;
            };
            let entries = block.iter().flat_map(|block| block.entries());
            for entry in entries.skip_while(|entry| entry.name < place.as_str()) {
                seen += 1;
                if draft.take(&entry).is_break() {
                    return Ok(());
                }
            }
            match next {
                Some(next) => place = next,
                None => return Ok(()),
            }
            // A narrowed token asks about each name: let other requests go on.
            if seen >= SLICE {
                seen = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// A window with `place` in it, and where that can be with all that follows
    /// the names of this page: the next page begins there.
    async fn fill_window(
        &self,
        tenant: &Tenant,
        place: &Place,
        draft: &Draft<'_>,
    ) -> Result<Window, VaultError> {
        let make_room = || self.trim_list_caches(tenant);
        if let Some(next_page) = draft.next_page() {
            let window = tenant.window(place, &next_page, make_room).await?;
            if window.covers(place) {
                return Ok(window);
            }
        }
        tenant.window(place, place, make_room).await
    }
}

const PACKED: &str = "it was a name when it was packed";

fn parsed(entry: &Entry<'_>) -> SecretName {
    SecretName::parse(entry.name).expect(PACKED)
}

/// A page while it is made.
struct Draft<'r> {
    permit: &'r ListPermit,
    request: &'r ListRequest,
    now: Now,
    page: ListPage,
    /// Whether all names that were wanted so far were in memory.
    lookup: Lookup,
}

impl Draft<'_> {
    /// Takes the next name there is, and says whether that was enough.
    fn take(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
        if !entry.name.starts_with(self.request.prefix.as_str()) {
            return ControlFlow::Break(());
        }
        let Some(window) = entry.window else { return ControlFlow::Continue(()) };
        let state = match window.state_at(self.now) {
            WindowState::Pending => SecretState::NotYetValid,
            WindowState::Valid => SecretState::Valid,
            WindowState::Expired => return ControlFlow::Continue(()),
        };
        if !self.request.wants(window, self.now) {
            return ControlFlow::Continue(());
        }
        if !self.permit.shows_all() && !self.permit.shows(&parsed(entry), self.now) {
            return ControlFlow::Continue(());
        }
        if self.is_full() {
            self.page.more = true;
            return ControlFlow::Break(());
        }
        self.page.names.push(entry.name).expect(PACKED);
        if let Some(details) = &mut self.page.details {
            details.push(Detail { version: entry.version, window, state });
        }
        ControlFlow::Continue(())
    }

    fn is_full(&self) -> bool {
        self.page.names.len() >= usize::from(self.request.limit.get())
    }

    /// Where it will begin, if this page only looks whether there is one.
    fn next_page(&self) -> Option<Place> {
        self.page.names.last().filter(|_| self.is_full()).as_ref().map(Place::after)
    }
}
