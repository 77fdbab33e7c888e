//! One file per subcommand: its arguments, and their way into the libraries.

pub mod audit;
pub mod ca;
pub mod codemode;
pub mod config;
pub mod confine;
pub mod demo;
pub mod disarm;
pub mod doctor;
pub mod exec;
pub mod exec_host;
mod narrated;
pub mod policy;
pub mod portal;
pub mod proxy;
pub mod reference;
pub mod replay;
pub mod run;
pub mod sandbox_zygote;
pub mod sensor;
pub mod status;
pub mod token;
