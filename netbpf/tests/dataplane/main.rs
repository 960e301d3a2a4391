//! Documents applied to a host in a namespace of its own, with the real programs: what is there
//! after, what a second time changes, what a failure and a kill at each step leave, what a purge
//! leaves. They need root.

mod adopted;
mod apply;
mod bed;
mod faults;
mod keeper;
mod links;
mod moves;
mod networks;
mod reservations;
mod run;
