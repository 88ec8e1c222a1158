//! One real registry for all tests, with images of every form, each of another content.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use drop_devtools::images::layout::{Format, Packing, Top};
use drop_devtools::images::synthetic::{Shape, write};
use drop_devtools::images::{Pushed, push_by};
use drop_devtools::{packages, registry};

pub struct Shelf {
    address: String,
    images: BTreeMap<&'static str, Pushed>,
    foreign: Pushed,
}

fn shapes() -> [(&'static str, Shape); 9] {
    let plain = Shape::default();
    [
        ("one-layer", plain),
        ("a-hundred-layers", Shape { layers: 100, bytes: 100_000, ..plain }),
        ("zstd-layers", Shape { packing: Packing::Zstd, layers: 3, ..plain }),
        ("docker-schema-2", Shape { format: Format::Docker, ..plain }),
        ("index", Shape { top: Top::Index, ..plain }),
        ("docker-manifest-list", Shape { format: Format::Docker, top: Top::Index, ..plain }),
        ("by-digest", Shape { top: Top::Index, ..plain }),
        ("mirrored", plain),
        ("by-hand", plain),
    ]
}

impl Shelf {
    /// The registry, started and filled by whoever comes first.
    pub fn open() -> &'static Self {
        static SHELF: OnceLock<Shelf> = OnceLock::new();
        SHELF.get_or_init(Self::fill)
    }

    fn fill() -> Self {
        packages::ensure(packages::CLUSTER).unwrap();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shelf");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let address = serve(&directory);
        let push = |name: &str, shape: Shape| {
            let layout = directory.join(name);
            write(&layout, name, shape).unwrap();
            push_by(Command::new("skopeo"), &layout.to_string_lossy(), format!("{address}/{name}:1")).unwrap()
        };
        let images = shapes().into_iter().map(|(name, shape)| (name, push(name, shape))).collect();
        let foreign = push("foreign", Shape { top: Top::ForeignIndex, ..Shape::default() });
        Self { address, images, foreign }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn images(&self) -> impl Iterator<Item = &Pushed> {
        self.images.values()
    }

    pub fn image(&self, name: &str) -> &Pushed {
        &self.images[name]
    }

    /// An image of another architecture only.
    pub fn foreign(&self) -> &Pushed {
        &self.foreign
    }
}

/// Serves `directory` for as long as this process lives; returns the registry's address.
fn serve(directory: &Path) -> String {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let config = directory.join("config.yml");
    fs::write(&config, registry::configuration(&directory.join("data"), &address)).unwrap();
    let log = fs::File::create(directory.join("log")).unwrap();
    // The kernel ends the registry with the thread that started it: one that lives as long as this process.
    std::thread::spawn(move || {
        let started = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        started.unwrap().wait().unwrap();
    });
    let started = Instant::now();
    while std::net::TcpStream::connect(&address).is_err() {
        assert!(started.elapsed() < Duration::from_secs(30), "see {}", directory.join("log").display());
        std::thread::sleep(Duration::from_millis(20));
    }
    address
}
