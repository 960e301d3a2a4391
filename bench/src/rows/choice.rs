//! What the user wants, and the hosts that most rows share.

use std::{
    cell::{OnceCell, RefCell},
    path::PathBuf,
    time::Instant,
};

use anyhow::Result;

use crate::{
    peers::{
        self, DIRECT, DOCKER_LEGACY, DOCKER_NFT, LOOPBACK, NFT_MAPS, PLAIN, Sites, Wanted,
        docker::{Backend, Proxy},
        netbpf::Pool,
    },
    rounds::Pace,
    row::SUBJECT,
};

/// What the user wants.
pub struct Choice {
    /// What the ids of the rows contain.
    word: String,
    /// The command to measure.
    pub netbpf: PathBuf,
    /// How often and how long.
    pub pace: Pace,
    common: OnceCell<Sites>,
    pool: OnceCell<Result<Pool>>,
    many: RefCell<Option<Sites>>,
}

impl Choice {
    /// The rows whose ids contain `word`, measured for the command `netbpf`.
    pub fn new(word: &str, netbpf: PathBuf, pace: Pace) -> Self {
        Self {
            word: word.to_owned(),
            netbpf,
            pace,
            common: OnceCell::new(),
            pool: OnceCell::new(),
            many: RefCell::default(),
        }
    }

    /// Whether a row is to be measured.
    pub fn has(&self, id: &str) -> bool {
        id.contains(&self.word)
    }

    /// Every contender on a host of its own, with one published port. They stand until the end of
    /// the run, once the first row asks for them.
    pub fn common(&self) -> &Sites {
        let netbpf = &self.netbpf;
        self.common.get_or_init(|| {
            Sites::set_up(vec![
                Wanted::new(SUBJECT, || peers::netbpf::site(netbpf, 1)),
                Wanted::new(DOCKER_NFT, || {
                    peers::docker::site(Backend::Nft, Proxy::Process, 1)
                }),
                Wanted::new(DOCKER_LEGACY, || {
                    peers::docker::site(Backend::Legacy, Proxy::Process, 1)
                }),
                Wanted::new(NFT_MAPS, || peers::nft_maps::site(1)),
                Wanted::new(PLAIN, || Ok(peers::bed::plain())),
                Wanted::new(DIRECT, || Ok(peers::direct_veth::site())),
                Wanted::new(LOOPBACK, || Ok(peers::loopback::site())),
            ])
        })
    }

    /// The host with virtual IPs, or why there is none. It stands until the end of the run, once
    /// the first row asks for it.
    pub fn pool(&self) -> &Result<Pool> {
        self.pool.get_or_init(|| {
            let began = Instant::now();
            let pool = peers::set_up(|| Pool::set_up(&self.netbpf));
            let seconds = began.elapsed().as_secs_f64();
            eprintln!("bench: the virtual IPs are set up in {seconds:.1} s");
            pool
        })
    }

    /// Hosts with this many published ports, for `work`. They stand until the end of the run, once
    /// the first row asks for them, and their ports grow in number where they stand: rows have to
    /// ask for fewer ports first.
    pub fn with_ports<T>(&self, ports: u16, work: impl FnOnce(&Sites) -> T) -> T {
        let mut many = self.many.borrow_mut();
        let many = many.get_or_insert_with(|| self.set_up_many());
        many.change(|_, site| {
            if site.ports < ports {
                site.grow(ports)
            } else {
                Ok(())
            }
        });
        work(many)
    }

    fn set_up_many(&self) -> Sites {
        let (netbpf, first) = (&self.netbpf, self.pace.by_dockerd);
        let docker = |name, backend| {
            Wanted::new(name, move || {
                peers::docker::site(backend, Proxy::Process, first)
            })
        };
        Sites::set_up(vec![
            Wanted::new(SUBJECT, move || peers::netbpf::site(netbpf, first)),
            docker(DOCKER_NFT, Backend::Nft),
            docker(DOCKER_LEGACY, Backend::Legacy),
            Wanted::new(NFT_MAPS, move || peers::nft_maps::site(first)),
        ])
    }
}
