//! In the extensions of a request whose caller was asked for: who it is, to be asked again once its body is there.

use crate::api::ApiError;
use crate::auth::{Auth, Caller};

/// See the module.
#[derive(Clone)]
pub struct Authenticated {
    caller: Caller,
    auth: Auth,
}

impl Authenticated {
    pub fn new(caller: Caller, auth: Auth) -> Authenticated {
        Authenticated { caller, auth }
    }

    pub fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// Refuses a caller who was shut out since.
    pub async fn require_still(&self) -> Result<(), ApiError> {
        Ok(self.auth.require_still(&self.caller).await?)
    }
}
