//! Every verb of `netbpf::host`: done, done twice, undone. Each test has a network namespace of
//! its own for the host; none touches the one that it was started in. They need root.

mod address;
mod bed;
mod bpffs;
mod bridge;
mod netns;
mod port;
mod sysctl;
mod undo;
mod veth;
mod watch;
