//! Reading many secrets at once.

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::client::{Client, ClientError, Secret};
use crate::domain::SecretName;

/// So many are asked for at a time, each on a connection that is kept for the next.
const AT_ONCE: usize = 8;

/// In the order of the names; `None` where nothing is valid.
pub(super) async fn read_all(
    client: &Client,
    names: &[SecretName],
) -> Result<Vec<Option<Secret>>, ClientError> {
    let reads = names.iter().map(|name| client.read(name));
    stream::iter(reads).buffered(AT_ONCE).try_collect().await
}
