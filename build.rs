//! Builds the crate again when the web build changed, which is embedded.

fn main() {
    println!("cargo::rerun-if-changed=dashboards/web/dist");
}
