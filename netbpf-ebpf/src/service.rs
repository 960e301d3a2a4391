//! Virtual IPs: the backend of a new flow.

use netbpf_common::{
    nat::PortKey,
    service::{Backend, MAX_BACKENDS, pick_random},
    tuple::Tuple,
    verdict::DropReason,
};

use crate::{kernel, maps::Tables};

/// A backend, and the mapping that leads to it.
pub struct Choice<F: Tables> {
    /// The backend.
    pub backend: Backend<F>,
    /// The service port's mapping id.
    pub mapping: u32,
}

/// The backend for a new flow to a VIP.
///
/// # Errors
///
/// [`DropReason::VipPortClosed`], [`DropReason::NoBackend`].
#[inline(always)]
pub fn choose<F: Tables>(tuple: &Tuple<F>) -> Result<Choice<F>, DropReason> {
    let key = PortKey {
        addr: tuple.dst_addr,
        port: tuple.dst_port,
        proto: tuple.proto,
        pad: 0,
    };
    let service = F::service(&key).ok_or(DropReason::VipPortClosed)?;
    let index = pick_random(kernel::random(), service.count).ok_or(DropReason::NoBackend)?;
    // The mask tells the verifier what `count` promises.
    const _: () = assert!(MAX_BACKENDS.is_power_of_two());
    let index = index as usize & (MAX_BACKENDS - 1);
    let backend = *service.backends.get(index).ok_or(DropReason::NoBackend)?;
    Ok(Choice {
        backend,
        mapping: service.mapping,
    })
}
