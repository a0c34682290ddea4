//! A database under load is saved again and again, and set back to each of these moments.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::super::support::{Lab, Machine, Recipes, base};

/// Ends a client of the database, and with it what it runs in the guest.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn client(line: &str, output: Stdio) -> Client {
    let mut command: Command = Lab::get().command();
    command.args(["ssh", "db", "--", line]);
    command.stdin(Stdio::null()).stdout(output);
    Client(command.stderr(Stdio::null()).spawn().unwrap())
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_secs(600),
            "waited in vain: {what}"
        );
        thread::sleep(Duration::from_millis(200));
    }
}

/// `VMFAB_TEST_SNAPSHOTS` is how many snapshots are taken; 2 when it is not set.
#[test]
fn no_transaction_that_was_acknowledged_is_lost() {
    let rounds = std::env::var("VMFAB_TEST_SNAPSHOTS");
    let rounds: usize = rounds.map_or(2, |rounds| rounds.parse().unwrap());
    let recipes = Recipes::new();
    let recipe = r#"
        image "database" {
            from "BASE"
            packages "postgresql"
            run "su postgres -c '/usr/lib/postgresql/*/bin/pg_checksums --enable -D /var/lib/postgresql/*/main'"
            disk size="3G"
        }
        "#;
    recipes.write("database.kdl", &recipe.replace("BASE", &base()));
    let arguments = ["database.kdl", "--memory", "1G", "--cpus", "2"];
    let machine = Machine::boot("db", recipes.directory(), arguments);
    let lab = Lab::get();
    let in_database = |line: &str| machine.output(&format!("cd /; sudo -u postgres {line}"));
    let wait_for_database = || {
        wait_until("the database", || {
            machine.ssh("pg_isready --quiet").code == Some(0)
        });
    };
    wait_for_database();
    in_database("createdb bench");
    in_database("psql -qX bench -c 'create table acknowledged (id bigint primary key)'");
    in_database("psql -qX bench -c 'create extension amcheck'");
    in_database("pgbench --quiet -i -s 1 bench 2>/dev/null");

    let load = client(
        "cd /; exec sudo -u postgres pgbench -n -c 2 -T 100000 bench",
        Stdio::null(),
    );
    // One transaction after the other; psql says the number of each when it is committed.
    let mut writer = client(
        "cd /; seq 1 100000000 \
         | sed -u 's/.*/insert into acknowledged values (&) returning id;/' \
         | sudo -u postgres psql -qAtX bench",
        Stdio::piped(),
    );
    let acknowledged = Arc::new(AtomicU64::new(0));
    let lines = BufReader::new(writer.0.stdout.take().unwrap()).lines();
    let last = Arc::clone(&acknowledged);
    let reader = thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            last.store(line.parse().unwrap(), Ordering::SeqCst);
        }
    });
    let mut seen: Vec<u64> = Vec::new();
    for round in 0..rounds {
        let enough = seen.last().map_or(0, |last| last + 20);
        wait_until("transactions", || {
            acknowledged.load(Ordering::SeqCst) > enough
        });
        seen.push(acknowledged.load(Ordering::SeqCst));
        let name = format!("db-{round}");
        let create = ["snapshot", "create", &name, "--machine", "db", "--quiesce"];
        lab.run(create).ends_with(0);
    }
    // Until they end in the guest, their output stays open.
    machine.output("sudo pkill -x seq; sudo pkill -x pgbench");
    reader.join().unwrap();

    drop((load, writer));
    for (round, seen) in seen.into_iter().enumerate() {
        let name = format!("db-{round}");
        let restore = ["snapshot", "restore", &name, "--discard", "--force"];
        lab.run(restore).ends_with(0);
        machine.start();
        wait_for_database();
        in_database("/usr/lib/postgresql/*/bin/pg_amcheck --heapallindexed bench");
        let query = |query: &str| in_database(&format!("psql -qAtX bench -c \"{query}\""));
        let numbers = query("select count(*), max(id) from acknowledged");
        let (count, last) = numbers.split_once('|').unwrap();
        assert_eq!(count, last, "{name}: a transaction before the last is lost");
        let last: u64 = last.parse().unwrap();
        assert!(
            last >= seen,
            "{name}: {seen} was acknowledged, {last} is the last"
        );
        let sums = query(
            "select (select sum(abalance) from pgbench_accounts), \
             (select sum(bbalance) from pgbench_branches), \
             (select sum(tbalance) from pgbench_tellers), \
             (select coalesce(sum(delta), 0) from pgbench_history)",
        );
        let mut sums = sums.split('|');
        let first = sums.next().unwrap();
        assert!(sums.all(|sum| sum == first), "{name}: half a transaction");
        lab.run(["snapshot", "delete", &name]).ends_with(0);
    }
}
