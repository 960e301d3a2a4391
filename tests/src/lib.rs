//! What netbpf's tests share: packets and the bed that runs programs on them, namespaces and real
//! sockets, and the table of every path that is allowed or forbidden.
//!
//! Everything happens in network namespaces made here, under names that hold the process id; what
//! is made is removed when its guard is dropped, also when a test fails.

pub mod matrix;
pub mod netns;
pub mod packet;
pub mod product;
pub mod prog_run;
pub mod scene;
pub mod sockets;
pub mod topology;
pub mod tun;
