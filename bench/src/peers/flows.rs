//! Ends all flows of a netbpf that nobody uses at this moment, as its programs end one: both halves
//! go, and whoever takes the original half away gives the flow's place and its port back. A flow
//! that the sweep ends meanwhile is the sweep's.
//!
//! What connections begin with has to be alike for everybody, and the kernel's own tracking is
//! emptied as well.

use std::path::Path;

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapError, Queue},
};
use netbpf::dataplane::maps::{FlowTable, halves};
use netbpf_common::{
    config::GlobalConfig,
    conntrack::{Entry, HalfOpenPlace, Rooms, entry_flags, origin, way},
    family::{V4, V6},
    nat::port_index,
    tuple::{Direction, Tuple, proto},
};

/// Ends all flows of the maps that are pinned in this directory; how many there were.
///
/// # Errors
///
/// A failed system call.
pub fn end_all(maps: &Path) -> Result<usize> {
    Ok(Flows::<V4>::open(maps, "v4")?.end(maps)? + Flows::<V6>::open(maps, "v6")?.end(maps)?)
}

/// The maps of one family's flows.
struct Flows<F: FlowTable>
where
    Tuple<F>: Pod,
    Entry<F>: Pod,
    HalfOpenPlace<F>: Pod,
{
    table: HashMap<MapData, Tuple<F>, Entry<F>>,
    places: Array<MapData, Tuple<F>>,
    free: Queue<MapData, u32>,
    half_open: Array<MapData, HalfOpenPlace<F>>,
    rooms: Array<MapData, Rooms>,
    held: Array<MapData, u64>,
    /// How many places the ring of half-open flows has.
    ring: u32,
}

impl<F: FlowTable> Flows<F>
where
    Tuple<F>: Pod + Default + Ord,
    Entry<F>: Pod,
    HalfOpenPlace<F>: Pod,
{
    fn open(maps: &Path, family: &str) -> Result<Self> {
        let pin = |name: &str| {
            let path = maps.join(format!("{name}_{family}"));
            MapData::from_pin(&path).with_context(|| format!("no map at {}", path.display()))
        };
        let config: Array<MapData, GlobalConfig> = array(MapData::from_pin(maps.join("config"))?)?;
        Ok(Self {
            table: HashMap::try_from(Map::HashMap(pin("conntrack")?))?,
            places: array(pin("flows")?)?,
            free: Queue::try_from(Map::Queue(pin("free_slots")?))?,
            half_open: array(pin("half_open")?)?,
            rooms: array(pin("rooms")?)?,
            held: array(MapData::from_pin(maps.join("held_ports"))?)?,
            ring: config.get(&0, 0)?.max_half_open,
        })
    }

    fn end(&mut self, maps: &Path) -> Result<usize> {
        let (mut ended, mut promoted) = (0, 0);
        for (key, half) in &halves::<F>(maps)? {
            if half.direction() == Direction::Reply {
                continue;
            }
            self.remove(&half.partner())?;
            if !self.remove(key)? {
                continue;
            }
            ended += 1;
            self.give_port(key, half)?;
            if half.is_promoted() {
                self.places.set(half.slot, Tuple::<F>::default(), 0)?;
                self.free.push(half.slot, 0)?;
                promoted += 1;
            } else {
                self.leave(half.slot)?;
            }
        }
        self.give_places(promoted)?;
        Ok(ended)
    }

    /// Counts so many flows less that are not half open. The kernel takes the bookkeeping only whole,
    /// which does no harm here: nobody begins a flow meanwhile, the sweep has none left to end, and
    /// where it was it may well look again.
    fn give_places(&mut self, promoted: u64) -> Result<()> {
        if promoted == 0 {
            return Ok(());
        }
        let mut rooms = self.rooms.get(&0, 0)?;
        rooms.flows = rooms.flows.saturating_sub(promoted);
        Ok(self.rooms.set(0, rooms, 0)?)
    }

    /// Whether it was there.
    fn remove(&mut self, key: &Tuple<F>) -> Result<bool> {
        match self.table.remove(key) {
            Ok(()) => Ok(true),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Counts a flow less that has a port of the host's for its own, as `held_port` of the programs
    /// finds it.
    fn give_port(&mut self, key: &Tuple<F>, half: &Entry<F>) -> Result<()> {
        let has_ports = matches!(key.proto, proto::TCP | proto::UDP);
        if !has_ports || half.flags & entry_flags::REWRITE == 0 || half.way != way::OUTSIDE {
            return Ok(());
        }
        let own = if half.in_ifindex == origin::HOST {
            key.src_port
        } else {
            half.translated.src_port
        };
        let at = port_index(key.proto, own.get());
        let count = self.held.get(&at, 0)?;
        Ok(self.held.set(at, count.saturating_sub(1), 0)?)
    }

    /// Takes a half-open flow out of its place, unless another one has moved in.
    fn leave(&mut self, ticket: u32) -> Result<()> {
        let at = ticket.checked_rem(self.ring).context("no ring")?;
        let mut place = self.half_open.get(&at, 0)?;
        if place.tenant == u64::from(ticket) + 1 {
            place.tenant = 0;
            self.half_open.set(at, place, 0)?;
        }
        Ok(())
    }
}

fn array<V: Pod>(data: MapData) -> Result<Array<MapData, V>> {
    Ok(Array::try_from(Map::Array(data))?)
}
