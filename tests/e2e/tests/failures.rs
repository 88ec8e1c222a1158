//! Every way in which a registry or an image fails, for real: what users read, whom it holds up, and that it heals by
//! itself once the cause is gone. `FAILURES.md` beside the tests sums it up.

use std::time::Duration;

use anyhow::{Context as _, Result};
use drop_harness::faulty::content::{copy, offer_for};
use drop_harness::faulty::trust::Name;
use drop_harness::faulty::{Certificate, Door, Fault, Trust, silent_port, through};
use drop_harness::{Cluster, Wanted, run};
use drop_protocol::{FailureReason as Reason, FailureScope as Scope, NodeLease};
use serde_json::{Value, json};

/// The name of a registry that does not resolve.
const UNKNOWN_NAME: &str = "registry.doors.test";

/// One CachedImage that fails in its own way.
struct Case {
    image: Wanted,
    reason: Reason,
    scope: Scope,
    /// What the message has to name.
    names: Vec<String>,
    /// Further fields of its spec.
    fields: Value,
}

impl Case {
    fn new(image: Wanted, reason: Reason, scope: Scope) -> Self {
        // What concerns one image names that image, what concerns a registry its host.
        let named = match scope {
            Scope::Registry => image.image.split('/').next().unwrap_or_default().to_owned(),
            Scope::Image | Scope::Platform | Scope::Node => image.reference(),
        };
        Self { image, reason, scope, names: vec![named], fields: json!({}) }
    }

    fn also_names(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    fn with(mut self, fields: Value) -> Self {
        self.fields = fields;
        self
    }

    /// What nodes that have not tried yet wait for, if they wait for others at all.
    const fn probe(&self) -> Option<&'static str> {
        match self.scope {
            Scope::Image => Some("WaitingForProbe"),
            Scope::Platform => Some("WaitingForPlatformProbe"),
            Scope::Registry => Some("WaitingForRegistryProbe"),
            Scope::Node => None,
        }
    }

    /// Whether users read what they should; what they read otherwise.
    async fn is_told(&self, cluster: &Cluster) -> Result<(), String> {
        let told = cluster.told(&self.image.name).await.map_err(|error| error.to_string())?;
        match told {
            Some(told)
                if !told.ready
                    && told.reason == self.reason.as_str()
                    && self.names.iter().all(|name| told.message.contains(name)) =>
            {
                Ok(())
            }
            other => Err(format!("{}: {:?} is not told, but {other:?}", self.image.name, self.reason)),
        }
    }
}

/// Waits until users read of every case what they should.
async fn wait_told(cluster: &Cluster, cases: &[Case], limit: Duration) -> Result<()> {
    let start = std::time::Instant::now();
    loop {
        let mut wrong = Vec::new();
        for case in cases {
            wrong.extend(case.is_told(cluster).await.err());
        }
        if wrong.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(start.elapsed() < limit, "not within {limit:?}:\n{}", wrong.join("\n"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until every case has held up whom it should, and fails if one holds up anybody else.
async fn wait_held(cluster: &Cluster, cases: &[Case], limit: Duration) -> Result<()> {
    let start = std::time::Instant::now();
    let mut unseen: Vec<&Case> = cases.iter().filter(|case| case.probe().is_some()).collect();
    while !unseen.is_empty() {
        let names = unseen.iter().map(|case| format!("{} {:?}", case.image.name, case.probe()));
        let late = start.elapsed() > limit;
        anyhow::ensure!(!late, "hold up nobody within {limit:?}:\n{}", names.collect::<Vec<_>>().join("\n"));
        for case in cases {
            let waiting = cluster.probes(&case.image.name).await?;
            let others = waiting.iter().any(|reason| Some(reason.as_str()) != case.probe());
            anyhow::ensure!(!others, "{:?}: {} waits: {waiting:?}", case.reason, case.image.name);
            if !waiting.is_empty() {
                unseen.retain(|unseen| unseen.image.name != case.image.name);
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Scopes of the failures that nodes report of a CachedImage.
async fn scopes(cluster: &Cluster, image: &Wanted) -> Result<Vec<Scope>> {
    let uid = cluster.images().get(&image.name).await?.metadata.uid.context("no uid")?;
    let mut scopes = Vec::new();
    for (node, _) in &cluster.nodes {
        let lease = NodeLease::decode(&cluster.leases().get(node).await?)?;
        let entry = lease.report.and_then(|report| report.images.get(uid.as_str()).cloned());
        scopes.extend(entry.and_then(|entry| entry.failure).map(|failure| failure.scope));
    }
    Ok(scopes)
}

/// Failures that are tried again soon.
fn quickly() -> Value {
    json!({ "failureBackoff": { "initial": "2s", "max": "4s" } })
}

#[test]
fn every_failure_is_told_for_what_it_is_and_heals_by_itself() -> Result<()> {
    run("faults", async |cluster| {
        let info = &cluster.info;
        let images = cluster.fresh_images(16, 1).await?;
        let mut images = images.into_iter();
        let mut next = || images.next().context("too few images");

        // Images that fail, each in its way, beside good ones of the same registry.
        let door = Door::open(info)?;
        let _plain = Trust::plain(info, &door.host)?;
        let good = [next()?, door.leads_to(&next()?)];
        let mut cases = Vec::new();
        // What is pushed later must not be there yet, whatever an earlier run has pushed.
        let ours = std::process::id();
        let good_tag = door.leads_to(&next()?);
        let wrong_tag = Wanted { tag: format!("no-such-tag-{ours}"), ..good_tag.clone() };
        cases.push(Case::new(wrong_tag.clone(), Reason::NotFound, Scope::Image));
        let nowhere = next()?;
        let wrong_name =
            Wanted { image: format!("{}/no/such/repository-{ours}", door.host), ..nowhere.clone() };
        cases.push(Case::new(wrong_name.clone(), Reason::NotFound, Scope::Image));
        for (status, reason) in [(401, Reason::Unauthorized), (403, Reason::Forbidden)] {
            let image = door.leads_to(&next()?);
            door.fail_for(&image, Fault::Status(status, None));
            cases.push(Case::new(image, reason, Scope::Image).also_names("imagePullSecrets"));
        }
        let corrupt = door.leads_to(&next()?);
        door.fail_for(&corrupt, Fault::Corrupt);
        cases.push(Case::new(corrupt, Reason::InvalidImage, Scope::Image));
        let native = next()?;
        let foreign = Wanted { tag: "foreign".into(), ..native.clone() };
        offer_for(info, "s390x", &native, &foreign).await?;
        cases.push(Case::new(foreign.clone(), Reason::NoMatchingPlatform, Scope::Platform));
        let stuck = door.leads_to(&next()?);
        door.fail_for(&stuck, Fault::Stuck);
        // What takes long comes last, and on one node: a node pulls one image at a time.
        let second = json!({ "kubernetes.io/hostname": cluster.nodes[1].0 });
        let last = json!({ "nodeSelector": second, "priority": 10 });
        cases.push(Case::new(stuck, Reason::Stuck, Scope::Node).with(last));

        // Registries that fail, whatever is asked of them.
        let limited = Door::open(info)?;
        limited.fail(Fault::Status(429, Some(1)));
        let failing = Door::open(info)?;
        failing.fail(Fault::Status(500, None));
        let (silent, silent_too) = (silent_port()?, silent_port()?);
        let tokens = Door::open(info)?;
        let token_server = format!("{}:{silent_too}", drop_devtools::network::GATEWAY);
        tokens.fail(Fault::Token(format!("http://{token_server}/token")));
        let certificate = Certificate::make(info)?;
        let foreign_tls = Door::open_at(info, 0, Some(&certificate))?;
        let refusing = format!("{}:{silent}", drop_devtools::network::GATEWAY);
        let unknown = format!("{UNKNOWN_NAME}:{}", door.port());
        let _plains = [&limited.host, &failing.host, &tokens.host, &refusing, &unknown]
            .map(|host| Trust::plain(info, host));
        for (host, reason) in [
            (&limited.host, Reason::TooManyRequests),
            (&failing.host, Reason::ServerError),
            (&foreign_tls.host, Reason::TLSError),
            (&refusing, Reason::ConnectionRefused),
            (&unknown, Reason::DNSError),
        ] {
            cases.push(Case::new(through(host, &next()?), reason, Scope::Registry));
        }
        let token = Case::new(tokens.leads_to(&next()?), Reason::ConnectionRefused, Scope::Registry);
        cases.push(token.also_names(&token_server));

        cluster.apply_policy_with(3, Duration::ZERO, &quickly()).await?;
        for case in &cases {
            cluster.apply_image_with(&case.image, &case.fields).await?;
        }
        for image in &good {
            cluster.apply_image(image).await?;
        }

        cluster.wait_ready(&good, Duration::from_secs(60)).await.context("good images are held up")?;
        wait_told(cluster, &cases, Duration::from_secs(120)).await?;
        wait_held(cluster, &cases, Duration::from_secs(120)).await?;
        for case in &cases {
            let scopes = scopes(cluster, &case.image).await?;
            anyhow::ensure!(
                !scopes.is_empty() && scopes.iter().all(|scope| *scope == case.scope),
                "{}: {scopes:?}",
                case.image.name
            );
        }

        for door in [&door, &limited, &failing] {
            door.mend();
        }
        let _open = Door::open_at(info, silent, None)?;
        let _open_too = Door::open_at(info, silent_too, None)?;
        let _authority = Trust::authority(info, &foreign_tls.host, &certificate)?;
        let _name = Name::resolve(info, UNKNOWN_NAME)?;
        copy(info, &native, &foreign).await?;
        copy(info, &nowhere, &wrong_name).await?;
        copy(info, &good_tag, &wrong_tag).await?;
        for image in cases.iter().map(|case| &case.image) {
            cluster
                .wait_until(Duration::from_secs(90), &format!("{} has healed", image.name), async || {
                    Ok(cluster.told(&image.name).await?.is_some_and(|told| told.ready))
                })
                .await
                .with_context(|| format!("{image:?}"))?;
            anyhow::ensure!(cluster.status(&image.name).await?.consecutive_failures == 0);
        }
        cluster.clean().await
    })
}
