//! Dialects: requests become typed values, decisions become bytes. Nothing is decided here.

mod aadsts;
mod advice;
pub mod arm;
pub mod discovery;
mod entra;
mod form;
pub mod instance;
mod oauth;
mod response;
mod rfc8693;
mod token;

pub use aadsts::Surface;
pub use advice::{advice, error_page};
pub use response::{Ids, Wire};
pub use token::{Endpoint, TokenCall};
