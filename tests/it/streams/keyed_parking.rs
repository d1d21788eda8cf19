//! A keyed stream is parked while batches of it are under way that began before: whatever they hold, they come after what
//! is parked, and what is parked comes after them where they are older.
//!
//! Triggers hold writers at a point: what they are held by is a row of `public.held`, and a lock is not, because waits for
//! locks are what the writers step back from.

use serde_json::{Value, json};

use crate::support::{Gateway, eventually};

/// A batch for each two records, each in a writer of its own.
const FLAGS: [&str; 3] = ["--writers=4", "--batch-rows=2", "--batch-interval-ms=20000"];

/// Writers that a trigger holds.
const HELD: &str = "select count(*) from pg_stat_activity where datname = current_database()
    and application_name = 'tidegate' and wait_event = 'PgSleep'";

/// A gateway with a keyed stream of which version 0 is held, and a stream without a key of which everything is held; and
/// while `public.stuck` is there, version 0 cannot be written.
struct Rig {
    gateway: Gateway,
}

impl Rig {
    async fn start(on_duplicate: &str) -> Rig {
        let gateway = Gateway::with(&FLAGS).await;
        let columns = json!([{"name": "k", "type": "text"}, {"name": "v", "type": "integer"}]);
        let keyed = json!({"name": "keyed", "columns": columns, "key": ["k"], "on_duplicate": on_duplicate});
        gateway.create_stream(&keyed).await;
        gateway.create_stream(&json!({"name": "plain"})).await;
        gateway
            .execute(
                "create table public.held (who text);
                 create table public.stuck ();
                 insert into public.held values ('keyed'), ('plain');
                 create function hold() returns trigger language plpgsql as $$
                 begin
                     while exists (select from public.held where who = tg_table_name) loop
                         perform pg_sleep(0.01);
                     end loop;
                     if tg_table_name = 'keyed' and to_regclass('public.stuck') is not null then
                         raise exception 'the table is stuck' using errcode = '57014';
                     end if;
                     return new;
                 end $$;
                 create trigger hold before insert on streams.plain for each row execute function hold();
                 create trigger hold before insert on streams.keyed for each row when (new.v = 0)
                     execute function hold()",
            )
            .await;
        // From now on the gateway knows how many bytes a record has, and cuts a batch as soon as there are two.
        gateway.commit("keyed", &json!({"k": "first", "v": 9})).await;
        gateway.execute("delete from streams.keyed").await;
        Rig { gateway }
    }

    async fn send(&self, stream: &str, records: &Value) {
        self.gateway.records(stream).json(records).send().await.expect(202);
    }

    async fn wait_held(&self, writers: i64) {
        eventually("the writers are held", async || {
            (self.gateway.scalar::<i64>(HELD).await == writers).then_some(())
        })
        .await;
    }

    async fn let_go(&self, who: &str) {
        self.gateway.execute(&format!("delete from public.held where who = '{who}'")).await;
    }

    async fn wait_parked(&self, records: u64) {
        eventually("the records are parked", async || {
            let status = self.gateway.get("/v1/status").await.expect(200);
            (status["parked"]["keyed"]["records"] == records).then_some(())
        })
        .await;
    }

    /// Keys and values of the keyed table.
    async fn pairs(&self) -> Vec<String> {
        self.gateway.column("select k || v from streams.keyed order by k").await
    }

    /// A first batch that is held and then parked, and a second one that was planned before that, and brings version 1
    /// of a key. It is still held when this returns.
    async fn park_behind_the_back_of_another_batch(&self, key: &str) {
        self.send("keyed", &json!([{"k": "a", "v": 0}, {"k": "b", "v": 0}])).await;
        self.wait_held(1).await;
        self.send("plain", &json!({"n": 1})).await;
        self.send("keyed", &json!({"k": key, "v": 1})).await;
        self.wait_held(2).await;
        self.let_go("keyed").await;
        self.wait_parked(2).await;
    }

    async fn repair(&self) {
        self.gateway.execute("drop table public.stuck").await;
    }
}

#[tokio::test]
async fn a_batch_that_began_before_its_stream_was_parked_is_parked_as_well() {
    for (on_duplicate, expected) in [("replace", ["a1", "b0"]), ("ignore", ["a0", "b0"])] {
        let rig = Rig::start(on_duplicate).await;
        rig.park_behind_the_back_of_another_batch("a").await;
        // It copies straight into the table, its turn has come; and it must not stay there.
        rig.let_go("plain").await;
        rig.gateway.wait_all_committed().await;
        assert_eq!(rig.pairs().await, Vec::<String>::new(), "nothing is older than what is parked");
        rig.wait_parked(3).await;
        rig.repair().await;
        rig.gateway.wait_nothing_parked().await;
        assert_eq!(rig.pairs().await, expected, "{on_duplicate}");
        let (committed, duplicates) = (
            rig.gateway.total("keyed", "committed").await,
            rig.gateway.total("keyed", "duplicates").await,
        );
        assert_eq!((committed, duplicates), (1 + 2, 1), "{on_duplicate}");
    }
}

#[tokio::test]
async fn what_is_parked_waits_for_an_older_batch_that_is_still_under_way() {
    for (on_duplicate, expected) in [("replace", "c2"), ("ignore", "c1")] {
        let rig = Rig::start(on_duplicate).await;
        rig.park_behind_the_back_of_another_batch("c").await;
        // Parked at once, while the batch before it is held.
        rig.send("keyed", &json!([{"k": "c", "v": 2}, {"k": "d", "v": 2}])).await;
        rig.wait_parked(4).await;
        rig.repair().await;
        eventually("what is older than both is in the table", async || {
            (rig.gateway.rows("keyed").await >= 2).then_some(())
        })
        .await;
        assert_eq!(rig.pairs().await, ["a0", "b0"], "the batch in between is not committed");
        rig.wait_parked(2).await;
        rig.let_go("plain").await;
        rig.gateway.wait_all_committed().await;
        rig.gateway.wait_nothing_parked().await;
        assert_eq!(rig.pairs().await, ["a0", "b0", expected, "d2"], "{on_duplicate}");
    }
}
