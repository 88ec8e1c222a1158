//! YAML from files and documentation.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

/// The `yaml` blocks of a Markdown file.
///
/// # Errors
/// If the file can't be read.
pub fn examples(markdown: &Path) -> anyhow::Result<Vec<String>> {
    blocks(markdown, "yaml")
}

/// The blocks of a Markdown file that are marked as written in `language`.
///
/// # Errors
/// If the file can't be read.
pub fn blocks(markdown: &Path, language: &str) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(markdown).with_context(|| format!("cannot read {}", markdown.display()))?;
    let fence = format!("```{language}\n");
    let blocks = text.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next());
    Ok(blocks.map(str::to_owned).collect())
}

/// The content of every YAML file in a directory.
///
/// # Errors
/// If one can't be read.
pub fn directory(path: &Path) -> anyhow::Result<Vec<String>> {
    let mut files: Vec<_> = fs::read_dir(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    files.sort();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.iter().map(|file| Ok(fs::read_to_string(file)?)).collect()
}

/// The objects in a text of one or more YAML documents.
///
/// # Errors
/// If it is not YAML.
pub fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(text)?)
}
