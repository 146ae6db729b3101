//! Refuses to build the relay with a catalog that it would refuse to start with.

fn main() {
    println!("cargo::rerun-if-changed=../catalog.toml");
    match std::fs::read_to_string("../catalog.toml") {
        Ok(text) => {
            if let Err(error) = catalog::Catalog::parse(&text) {
                println!("cargo::error=catalog.toml: {error}");
            }
        }
        Err(error) => println!("cargo::error=catalog.toml: {error}"),
    }
}
