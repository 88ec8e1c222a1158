//! Who hears of a change, and when: the watches of all clients.

use std::sync::Arc;
use std::time::Duration;

use crate::api::watch::Watch;
use crate::api::{Kind, Stored};
use crate::network::{self, Client};
use crate::simulation::{Event, Message, Simulation};
use crate::streams::Part;

impl Simulation {
    /// Tells watches of what was committed since last time.
    pub fn spread_news(&mut self) {
        let version = self.api.version();
        for seen in self.checker.spread..version {
            let change = self.api.log()[usize::try_from(seen).unwrap_or(0)].clone();
            self.checker_sees(&change);
            for index in 0..self.watches.len() {
                let watch = &self.watches[index];
                if watch.connected && watch.covers(&change) {
                    self.watches[index].pending.push_back(change.version);
                    self.schedule_watch(index);
                }
            }
        }
        self.checker.spread = version;
    }

    fn schedule_watch(&mut self, index: usize) {
        let watch = &mut self.watches[index];
        if watch.scheduled || watch.pending.is_empty() {
            return;
        }
        watch.scheduled = true;
        let mut rng = self.streams.next(Part::Watch(watch.client.place, watch.kind));
        let delay = network::watch_delay(&mut rng, &self.weather);
        self.after(delay, Event::Watch(index));
    }

    /// Opens a watch with the list that goes before it.
    pub fn open_watch(&mut self, client: Client, kind: Kind, name: Option<String>) -> usize {
        let mut watch = Watch::new(client, kind, name, 0);
        watch.connected = false;
        // Places of dead processes are used again.
        let free = (0..self.watches.len())
            .find(|i| !self.alive(self.watches[*i].client) && !self.watches[*i].scheduled);
        let index = free.unwrap_or(self.watches.len());
        if free.is_some() {
            self.watches[index] = watch;
        } else {
            self.watches.push(watch);
        }
        let mut rng = self.streams.next(Part::Watch(client.place, kind));
        self.after(network::transit(&mut rng), Event::Reconnect(index));
        index
    }

    /// A watch has something to tell.
    pub fn watch_tells(&mut self, index: usize) {
        self.watches[index].scheduled = false;
        let client = self.watches[index].client;
        if !self.alive(client) {
            self.watches[index].cut();
            return;
        }
        if !self.watches[index].connected {
            return;
        }
        if self.api.down || self.cut(client) || network::watch_breaks(&mut self.rng, &self.weather) {
            self.break_watch(index);
            return;
        }
        if let Some(version) = self.watches[index].pending.pop_front() {
            self.watches[index].heard = version;
            let change = self.api.log()[usize::try_from(version - 1).unwrap_or(0)].clone();
            self.deliver(client, Message::Heard(change));
        }
        self.schedule_watch(index);
    }

    /// The connection of a watch breaks; its client opens it again before long.
    pub fn break_watch(&mut self, index: usize) {
        if !self.watches[index].connected {
            return;
        }
        let watch = &mut self.watches[index];
        watch.cut();
        let mut rng = self.streams.next(Part::Watch(watch.client.place, watch.kind));
        let delay = Duration::from_millis(rng.u64(200..6_000));
        self.after(delay, Event::Reconnect(index));
    }

    /// A broken watch is opened again: where it stopped, or with a new list.
    pub fn reconnect(&mut self, index: usize) {
        let client = self.watches[index].client;
        if !self.alive(client) || self.watches[index].connected {
            return;
        }
        if self.api.down || self.cut(client) {
            let delay = self.seconds(0.5, 5.0);
            self.after(delay, Event::Reconnect(index));
            return;
        }
        let (kind, name, heard) =
            (self.watches[index].kind, self.watches[index].name.clone(), self.watches[index].heard);
        self.watches[index].connected = true;
        if heard > 0 && self.rng.u32(0..100) < 60 {
            // The version is still known: the watch goes on where it stopped.
            let missed: Vec<u64> = self.api.log()[usize::try_from(heard).unwrap_or(0)..]
                .iter()
                .filter(|change| self.watches[index].covers(change))
                .map(|change| change.version)
                .collect();
            self.watches[index].pending.extend(missed);
            self.schedule_watch(index);
            return;
        }
        let mut snapshot = self.api.snapshot(kind, name.as_deref());
        if let (Some(name), true) = (&name, self.weather.slow_watch > 0.0 && self.rng.u32(0..100) < 30) {
            // A list from a server's cache may be behind, and behind what the client has heard already.
            let age = self.seconds(0.0, 5.0);
            let version = self.api.version_at(self.now.saturating_sub(age));
            let object = self.api.get_at(version, kind, name).cloned();
            snapshot.objects =
                object.map(|object| (name.clone(), Stored { version, object })).into_iter().collect();
            snapshot.version = version;
            let behind: Vec<u64> = self.api.log()[usize::try_from(version).unwrap_or(0)..]
                .iter()
                .filter(|change| self.watches[index].covers(change))
                .map(|change| change.version)
                .collect();
            self.watches[index].pending.extend(behind);
        }
        self.watches[index].heard = snapshot.version.max(1);
        self.deliver(client, Message::Relisted(kind, Arc::new(snapshot)));
        self.schedule_watch(index);
    }
}
