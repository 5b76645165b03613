//! `tower-seal man`: one page, with a section for each subcommand.

use std::io;

use clap::Command;
use clap_mangen::Man;

pub(crate) fn page(mut command: Command) -> io::Result<Vec<u8>> {
    command.build();
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        section(subcommand, &mut page)?;
    }
    man.render_extra_section(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// The parts of a subcommand's own page, as subsections of one section.
fn section(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone());
    let mut parts = Vec::new();
    man.render_synopsis_section(&mut parts)?;
    man.render_description_section(&mut parts)?;
    man.render_options_section(&mut parts)?;
    let parts = String::from_utf8_lossy(&parts);
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_uppercase();
    page.extend(format!(".SH \"{}\"\n", name.replace('-', "\\-")).bytes());
    for line in parts.lines().filter(|line| !line.starts_with(".ie ") && !line.starts_with(".el ")) {
        page.extend(line.strip_prefix(".SH").map_or(line.to_owned(), |title| format!(".SS{title}")).bytes());
        page.push(b'\n');
    }
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        section(subcommand, page)?;
    }
    Ok(())
}
