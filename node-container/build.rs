//! Writes into the binary where llama.cpp's shared libraries are looked for: beside it (an image), then where they were built.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Our own link dependency on llama-cpp-sys-2 is what makes cargo tell us this.
    println!("cargo:rerun-if-env-changed=DEP_LLAMA_ROOT");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    // The libraries need each other and carry no search path of their own. The old kind of entry (DT_RPATH) holds
    // for them too; the new kind (DT_RUNPATH) would hold for the binary only.
    println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN");
    if let Ok(root) = std::env::var("DEP_LLAMA_ROOT") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{root}/lib");
    }
}
