//! s
#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let rt = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let home = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
        let lock = timebus_store::store::lock_home(&home).unwrap();
        let t = std::time::Instant::now();
        let store = timebus_store::store::Store::open(&home, lock, &Default::default(), 1, &mut |_| {}).unwrap();
        eprintln!("open {:?} {:?}", t.elapsed(), store.opened());
        let token = timebus_identity::Keys::create_or_open(&home.join("keys")).unwrap().owner_token().unwrap();
        let peer = timebus_net::peer::Peer::new(store, token, Default::default());
        let l = tokio::net::TcpListener::bind("127.0.0.1:7707").await.unwrap();
        timebus_net::server::serve(peer, vec![l], async { tokio::signal::ctrl_c().await.unwrap() }).await.unwrap();
    });
}
