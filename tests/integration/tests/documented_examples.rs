//! What the documentation shows is accepted as it stands, misspelt fields included among what would fail.

use drop_integration::cluster::{self, repository};
use drop_integration::{definitions, manifests};

/// Applies documents without storing them, as a user would, and returns how many were accepted.
fn accepted(documents: &[String]) -> anyhow::Result<usize> {
    let mut count = 0;
    cluster::test(async |cluster| {
        definitions::install(cluster).await?;
        let all = documents.join("\n---\n");
        let output = cluster.kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"], &all)?;
        count = output.lines().filter(|line| line.ends_with("(server dry run)")).count();
        Ok(())
    })?;
    Ok(count)
}

#[test]
fn the_examples_of_the_reference_are_accepted() -> anyhow::Result<()> {
    let examples = manifests::examples(&repository().join("crds/README.md"))?;
    assert!(examples.len() >= 8, "only {} examples were found", examples.len());
    assert_eq!(accepted(&examples)?, examples.len());
    Ok(())
}

#[test]
fn the_examples_of_discovery_are_accepted() -> anyhow::Result<()> {
    let examples = manifests::examples(&repository().join("crds/DISCOVERY.md"))?;
    assert!(examples.len() >= 5, "only {} examples were found", examples.len());
    assert_eq!(accepted(&examples)?, examples.len());
    Ok(())
}

#[test]
fn the_samples_are_accepted() -> anyhow::Result<()> {
    let samples = manifests::directory(&repository().join("deploy/samples"))?;
    let objects =
        samples.iter().map(|text| Ok(manifests::parse(text)?.len())).sum::<anyhow::Result<usize>>()?;
    assert!(objects >= 4, "only {objects} samples were found");
    assert_eq!(accepted(&samples)?, objects);
    Ok(())
}

#[test]
fn manifests_of_the_go_implementation_are_accepted() -> anyhow::Result<()> {
    let old = manifests::directory(&repository().join("tests/integration/manifests"))?;
    assert_eq!(accepted(&old)?, 5);
    Ok(())
}

#[test]
fn all_kinds_are_found_under_their_category() -> anyhow::Result<()> {
    cluster::test(async |cluster| {
        definitions::install(cluster).await?;
        let output = cluster.kubectl(&["api-resources", "--categories=drop", "--no-headers"], "")?;
        let found: Vec<&str> = output.lines().filter_map(|line| line.split_whitespace().next()).collect();
        for (_, plural) in definitions::KINDS {
            assert!(found.contains(&plural), "{plural} is not in the category drop: {found:?}");
        }
        Ok(())
    })
}
