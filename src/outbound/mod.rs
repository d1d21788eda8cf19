//! The guarded HTTP client: how the gateway asks the hosts that its users name.
//!
//! Promises: a request reaches only what its user could reach from the internet, or what the operator allows (`guard`,
//! `public_addresses`); a host gets so many requests at a time, and not all at once (`hosts`); what one owner's hosts hold up
//! is never all that there is (`owner_shares`, `lookups`); secrets are sealed at rest
//! (`sealer`), are sent only to the origin that they were given for (`secrets`), and are hidden in what people are told of
//! an answer (`mask`). It knows nothing of what is asked, or why.

mod asking;
pub mod canonical;
mod client;
mod endpoint;
mod guard;
mod hosts;
mod lookups;
mod mask;
mod owner_shares;
mod public_addresses;
pub mod retry_after;
mod sealer;
mod secrets;
pub mod shown;

pub use asking::Asking;
pub use client::{Client, ClientError, RequestError};
pub use endpoint::{Credentials, Endpoint, InvalidEndpoint};
pub use guard::{Guard, RefusedHost, UnknownHost};
pub use hosts::{HostPermit, Hosts, PutOff};
pub use lookups::BusyLookups;
pub use mask::Mask;
pub use owner_shares::{OwnerShares, owner_share};
pub use sealer::{KEY_BYTES, KeyError, OpenError, SealedHeaders, Sealer};
pub use secrets::{Secrets, is_secret, may_see_secrets};
