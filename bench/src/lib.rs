//! What the bench is made of: contenders on hosts of their own, loads between them, rounds in which
//! they take turns, rows with targets, and the report.
//!
//! Everything happens in network namespaces made here, and goes when its guard is dropped. No figure
//! is compared with one of another run.

pub mod budget;
pub mod guard;
pub mod hooks;
pub mod machine;
pub mod peers;
pub mod pin;
pub mod quiet;
pub mod report;
pub mod rounds;
pub mod row;
pub mod rows;
pub mod statistics;
pub mod stop;
pub mod work;
