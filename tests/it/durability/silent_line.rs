//! A line to PostgreSQL that goes silent without a word: no error would ever come of it.
//!
//! Before: each caller had to put a limit around what it asked, and some did not. A polling run waited for its memory for as
//! long as the line was silent, and so did the upkeep of the quarantine and lists that people ask for.

use futures::join;
use tidegate::db::Database;

use crate::support::{ChaosProxy, Cut, TestDatabase, connect, eventually, soon};

/// For longer than it takes to cut the line, and shorter than PostgreSQL ends a statement after.
const ASKED: &str = "select pg_sleep(10)";

#[tokio::test]
async fn what_is_asked_of_a_pool_is_not_waited_for_without_an_end() {
    let database = TestDatabase::create().await;
    let proxy = ChaosProxy::before(database.url()).await;
    let gateways = Database::new(&proxy.url(database.url())).unwrap();
    let (pool, watching) = (gateways.pool(), connect(database.url()).await);
    let under_way = "select count(*) from pg_stat_activity
        where state = 'active' and query = $1 and datname = current_database()";
    let cut = async {
        eventually("they are asked", async || {
            let asked: i64 =
                sqlx::query_scalar(under_way).bind(ASKED).fetch_one(&watching).await.unwrap();
            (asked == 3).then_some(())
        })
        .await;
        proxy.cut(Cut::HalfOpen);
    };
    let (one, all, none) = (sqlx::query(ASKED), sqlx::query(ASKED), sqlx::query(ASKED));
    let asked = async { join!(one.fetch_one(pool), all.fetch_all(pool), none.execute(pool), cut) };
    let (one, all, none, ()) = soon("all of them end", asked).await;
    for error in [one.map(drop).unwrap_err(), all.map(drop).unwrap_err(), none.unwrap_err()] {
        assert!(error.to_string().contains("did not answer within 20s"), "{error}");
    }
}
