//! Many tenants with few secrets each.

use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tenure::api::admin::Command;

use crate::harness::client;
use crate::harness::report::{count, megabytes};
use crate::harness::server::{Caller, Server, this_build};
use crate::harness::{Outcome, long_value, machine};

const SECRETS: usize = 10;
/// Who create tenants at the same time.
const OPERATORS: usize = 8;

/// Answers a sentence.
pub fn run(data: &Path, tenants: usize) -> Outcome<String> {
    eprintln!("making {} tenants", count(tenants as f64));
    let (server, _) = Server::tenure(this_build(), data)?;
    let start = Instant::now();
    let callers = create(&server, tenants)?;
    let created = start.elapsed();
    let (callers, value): (Rc<[Caller]>, _) = (callers.into(), long_value());
    let filled = client::send_all(server.caller.address, tenants * SECRETS, move |number| {
        let secret = format!("secret-{}", number % SECRETS);
        let caller = callers.get(number / SECRETS);
        caller.map(|caller| caller.put(&secret, &value)).unwrap_or_default()
    })?;
    server.kill()?;
    let (server, after_kill) = Server::tenure(this_build(), data)?;
    server.stop()?;
    let (server, after_stop) = Server::tenure(this_build(), data)?;
    Ok(format!(
        "{} tenants of {SECRETS} secrets: {:.0} created a second by {OPERATORS} operators, a token \
         minted for each; {} puts/s; {:.2} s to the first answer after `kill -9` and {:.2} s after \
         a clean stop; {} MB resident then; {} MB on disk.",
        count(tenants as f64),
        tenants as f64 / created.as_secs_f64(),
        count(filled.per_second()),
        after_kill.as_secs_f64(),
        after_stop.as_secs_f64(),
        megabytes(server.memory()),
        megabytes(machine::disk_bytes(data)),
    ))
}

/// Over the admin socket, as the command line does it.
fn create(server: &Server, tenants: usize) -> Outcome<Vec<Caller>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let (admin, mut made) = (server.admin()?, Vec::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= tenants {
                return Outcome::Ok(made);
            }
            let name = format!("tenant-{number:05}");
            let create = Command::TenantCreate { name: name.clone() };
            admin.send(&create, None, None, &mut |_| {})?;
            made.push(server.caller_in(&admin, &name)?);
        }
    };
    std::thread::scope(|scope| {
        let operators: Vec<_> = (0..OPERATORS).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for operator in operators {
            all.extend(operator.join().map_err(|_| "an operator panicked")??);
        }
        Ok(all)
    })
}
