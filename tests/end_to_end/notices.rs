//! A webhook is told of secrets that come to their end: signed, again until it takes it, and
//! over any end of the server.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{
    Dev, Output, Receiver, ReceiverReply as Reply, Request, Serve, init, maintain, secret, tenure,
};

const TAKEN: Reply = Reply::Status(204);

/// A server that looks often.
fn dev(folder: &Path, url: &str) -> Dev {
    let key = Receiver::key_file(folder);
    Dev::start_with(&folder.join("data"), |command| {
        command.env("TENURE_NOTIFY_URL", url).env("TENURE_NOTIFY_SECRET_FILE", key);
        command.env("TENURE_NOTIFY_EVERY", "100ms").env("TENURE_SWEEP_EVERY", "100ms");
        command.env("TENURE_SWEEP_RETAIN", "0s");
    })
}

fn put(dev: &Dev, name: &str, expires_on: &str) {
    let body = json!({"value": "m4rker-value", "expiresOn": expires_on}).to_string();
    let put = Request::put(secret(name), body).bearer(&dev.token);
    assert_eq!(dev.client().send(&put).status, 204);
}

/// RFC 3339, so many seconds from now.
fn from_now(seconds: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = i64::try_from(now.expect("after 1970").as_secs()).expect("before long");
    tenure::domain::Timestamp::from_unix_seconds(now + seconds).to_string()
}

#[test]
fn a_secret_is_told_of_from_near_its_end_until_it_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let dev = dev(folder.path(), &receiver.url());
    let soon = from_now(2);
    put(&dev, "m4rker-soon", &soon);
    put(&dev, "m4rker-later", &from_now(20 * 86_400));
    put(&dev, "m4rker-far", "2200-01-01T00:00:00Z");
    let later = receiver.waits_for("expiring", "m4rker-later", &TAKEN);
    assert_eq!(later.body["type"], "tenure.secrets");
    for kind in ["expiring", "expired", "swept"] {
        let received = receiver.waits_for(kind, "m4rker-soon", &TAKEN);
        let event = received.events().iter().find(|event| event["type"] == kind).unwrap();
        assert_eq!((&event["tenant"], &event["expiresOn"]), (&json!("dev"), &json!(soon)));
        assert!(event["id"].as_str().is_some_and(|id| id.len() == 32), "{event}");
    }
    crate::support::eventually("it to be swept", || {
        let status = dev.run(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status.stdout).ok()?;
        (status["secrets"]["expired"] == 0).then_some(())
    });
    let told = receiver.received();
    let events: Vec<_> = told.iter().flat_map(|one| one.events().clone()).collect();
    let within = |name: &str| {
        let mut found =
            events.iter().filter(|event| event["name"] == name && event["type"] == "expiring");
        let within = found.next().map(|event| event["withinSeconds"].clone());
        assert!(found.next().is_none(), "{name} is told of once");
        within
    };
    assert_eq!(within("m4rker-soon"), Some(json!(86_400)));
    assert_eq!(within("m4rker-later"), Some(json!(30 * 86_400)));
    assert_eq!(within("m4rker-far"), None);
    assert!(!told.iter().any(|one| one.body.to_string().contains("m4rker-value")));
    let log = dev.log();
    assert!(!log.contains("m4rker") && !log.contains("whsec") && !log.contains("t0ken"), "{log}");
}

#[test]
fn what_is_not_taken_is_sent_again_and_blocks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let elsewhere = Receiver::start();
    for refusal in [Reply::Status(500), Reply::Redirect(elsewhere.url())] {
        receiver.answers(refusal.clone());
        let dev = dev(folder.path(), &receiver.url());
        let name = format!("n{}", receiver.received().len());
        put(&dev, &name, &from_now(3_600));
        let refused = receiver.waits_for("expiring", &name, &refusal);
        for number in 0..100 {
            assert_eq!(dev.put(&format!("k{number}"), "v").status, 204);
        }
        receiver.answers(TAKEN);
        let taken = receiver.waits_for("expiring", &name, &TAKEN);
        assert_eq!((&taken.id, &taken.body), (&refused.id, &refused.body), "the same message");
        // What is told next is told after that it was taken has been stored: the next server
        // would tell of it first, and be refused.
        let next = format!("{name}-next");
        put(&dev, &next, &from_now(3_600));
        receiver.waits_for("expiring", &next, &TAKEN);
        let log = dev.log();
        assert!(log.contains("notices wait: the receiver at notify.url answers with"), "{log}");
        assert!(!log.contains("t0ken"), "{log}");
    }
    assert!(elsewhere.received().is_empty(), "no redirect is followed");
}

#[test]
fn a_receiver_that_is_away_or_hangs_is_told_after_kill_9_and_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    receiver.answers(Reply::Silence);
    let server = dev(folder.path(), &receiver.url());
    put(&server, "hangs", &from_now(3_600));
    let cut_off = receiver.waits_for("expiring", "hangs", &Reply::Silence);
    assert_eq!(server.put("meanwhile", "v").status, 204);
    server.kill();
    receiver.answers(TAKEN);
    let server = dev(folder.path(), &receiver.url());
    let told = receiver.waits_for("expiring", "hangs", &TAKEN);
    assert_eq!(told.events()[0]["id"], cut_off.events()[0]["id"], "it is the same event");
    // What is told next is told after that it was taken has been stored.
    put(&server, "next", &from_now(3_600));
    receiver.waits_for("expiring", "next", &TAKEN);
    server.kill();
    let nobody = crate::support::fake_issuer::nobody();
    let server = dev(folder.path(), &format!("http://{nobody}/hook"));
    put(&server, "away", &from_now(3_600));
    crate::support::eventually("it to say so", || {
        server.log().contains("cannot be reached").then_some(())
    });
    server.kill();
    let receiver = Receiver::again(nobody);
    let server = dev(folder.path(), &receiver.url());
    receiver.waits_for("expiring", "away", &TAKEN);
    drop(server);
    let again = receiver.received().iter().any(|one| one.tells("expiring", "hangs"));
    assert!(!again, "what was taken before is not told again");
}

#[test]
fn a_name_that_is_hidden_is_told_to_who_has_the_key_alone() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let key = Receiver::key_file(folder.path());
    let dev = Dev::start_with(&folder.path().join("data"), |command| {
        command.env("TENURE_NOTIFY_URL", receiver.url());
        command.env("TENURE_NOTIFY_SECRET_FILE", &key);
        command.env("TENURE_NOTIFY_EVERY", "100ms").env("TENURE_NOTIFY_NAMES", "hashed");
    });
    put(&dev, "m4rker-hidden", &from_now(3_600));
    let text = std::fs::read_to_string(&key).unwrap();
    let hidden = tenure::crypto::WebhookKey::parse(&text).unwrap().hide("dev", "m4rker-hidden");
    let told = receiver.waits_for("expiring", &hidden, &TAKEN);
    assert!(!told.body.to_string().contains("m4rker"));
}

/// Neither the receiver is to blame for it, nor is anybody told who asks the proxy.
#[test]
fn a_proxy_that_leads_nowhere_is_named_and_the_receiver_not_blamed() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, key) = (Receiver::start(), Receiver::key_file(folder.path()));
    let dead = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).unwrap();
    let sent = |url: &str| {
        notify_test(|command| {
            command.env("TENURE_NOTIFY_URL", url).env("TENURE_NOTIFY_SECRET_FILE", &key);
            for name in ["HTTPS_PROXY", "HTTP_PROXY"] {
                command.env(name, format!("http://someone:hunter2@{dead}"));
            }
        })
    };
    let output = sent("https://ops.example/hook-t0ken");
    let through = format!("through the proxy http://{dead}: ");
    output.assert_fails(5, &["the receiver at notify.url", &through, "refused", "NO_PROXY"]);
    for word in ["someone", "hunter2", "t0ken"] {
        assert!(!output.stderr.contains(word), "{output:?}");
    }
    // This machine's loopback is reached without.
    assert_eq!(sent(&receiver.url()).code, Some(0));
}

fn notify_test(adapt: impl FnOnce(&mut std::process::Command)) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tenure();
    command.args(["notify", "test", "--data"]).arg(folder.path());
    adapt(&mut command);
    Output::of(&mut command)
}

#[test]
fn a_test_is_sent_once_and_says_what_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let key = Receiver::key_file(folder.path());
    let sent = |receiver: &Receiver| {
        notify_test(|command| {
            command.env("TENURE_NOTIFY_URL", receiver.url());
            command.env("TENURE_NOTIFY_SECRET_FILE", &key);
        })
    };
    let output = sent(&receiver);
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "the receiver took the test\n"));
    let [received] = &receiver.received()[..] else { panic!("it was sent once") };
    assert_eq!(received.events()[0]["type"], "test");
    receiver.answers(Reply::Status(403));
    let output = sent(&receiver);
    assert_eq!(output.code, Some(5), "{output:?}");
    assert!(output.stderr.contains("status 403") && !output.stderr.contains("t0ken"), "{output:?}");
    assert_eq!(receiver.received().len(), 2);
}

#[test]
fn what_is_wrong_with_the_configuration_is_said_with_what_to_do_and_without_the_key() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let output = notify_test(|_| {});
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("set notify.url and notify.secret_file"), "{output:?}");
    let with_key = |key: &Path| {
        notify_test(|command| {
            command.env("TENURE_NOTIFY_URL", "http://127.0.0.1:1/hook");
            command.env("TENURE_NOTIFY_SECRET_FILE", key);
        })
    };
    let missing = with_key(&folder.path().join("none"));
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.stderr.contains("openssl rand -base64 32"), "{missing:?}");
    let key = Receiver::key_file(folder.path());
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let readable = with_key(&key);
    assert!(readable.stderr.contains("chmod 600"), "{readable:?}");
    std::fs::write(&key, "m4rker").unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let garbled = with_key(&key);
    assert_eq!(garbled.code, Some(2), "{garbled:?}");
    assert!(garbled.stderr.contains("whsec_") && !garbled.stderr.contains("m4rker"), "{garbled:?}");
}

#[test]
fn a_receiver_over_tls_is_trusted_by_the_certificates_that_the_configuration_names() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let receiver = Receiver::start_tls(&made.cert.pem(), &made.signing_key.serialize_pem());
    let (key, ca) = (Receiver::key_file(folder.path()), folder.path().join("ca.pem"));
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let sent = |ca: &Path| {
        notify_test(|command| {
            command.env("TENURE_NOTIFY_URL", receiver.url());
            command.env("TENURE_NOTIFY_SECRET_FILE", &key).env("TENURE_NOTIFY_CA_FILE", ca);
        })
    };
    let trusted = sent(&ca);
    assert_eq!(trusted.code, Some(0), "{trusted:?}");
    assert_eq!(receiver.received().len(), 1);
    // The machine's authorities know nothing of it.
    sent(Path::new("")).assert_fails(5, &["cannot be reached"]);
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let strange = folder.path().join("other.pem");
    std::fs::write(&strange, other.cert.pem()).unwrap();
    sent(&strange).assert_fails(5, &["cannot be reached"]);
    sent(&folder.path().join("none")).assert_fails(2, &["notify.ca_file: ", "cannot be read"]);
    sent(&key).assert_fails(2, &["notify.ca_file: ", "holds no certificate in PEM form"]);
    assert_eq!(receiver.received().len(), 1);

    let dev = Dev::start_with(&folder.path().join("data"), |command| {
        command.env("TENURE_NOTIFY_URL", receiver.url()).env("TENURE_NOTIFY_EVERY", "100ms");
        command.env("TENURE_NOTIFY_SECRET_FILE", &key).env("TENURE_NOTIFY_CA_FILE", &ca);
    });
    put(&dev, "over-tls", &from_now(3_600));
    receiver.waits_for("expiring", "over-tls", &TAKEN);
}

/// A server with a configuration file that tests write.
struct Served {
    folder: tempfile::TempDir,
    data: PathBuf,
    server: Serve,
    token: String,
}

impl Served {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = init(folder.path());
        let minted = |args: &[&str]| {
            let output = maintain(&data, args);
            assert_eq!(output.code, Some(0), "{output:?}");
            output.stdout.trim().to_owned()
        };
        minted(&["tenant", "create", "dev"]);
        let token = minted(&["token", "mint", "--tenant", "dev", "--scope", "*"]);
        let file = folder.path().join("tenure.toml");
        Self::write_to(&file, &data, "");
        let server = Serve::start_with(&data, |command| {
            command.arg("--config").arg(&file);
        });
        Self { folder, data, server, token }
    }

    fn write_to(file: &Path, data: &Path, notify: &str) {
        let kek = data.with_extension("kek");
        let text = format!("data = {data:?}\nkek.file = {kek:?}\n[notify]\n{notify}\n");
        std::fs::write(file, text).unwrap();
    }

    /// What it then says of it.
    fn reload(&self, notify: &str, said: &str) {
        Self::write_to(&self.folder.path().join("tenure.toml"), &self.data, notify);
        self.signal(said);
    }

    fn signal(&self, said: &str) {
        let before = self.server.log().len();
        self.server.signal("HUP");
        crate::support::eventually(&format!("it to say {said}"), || {
            self.server.log()[before..].contains(said).then_some(())
        });
    }

    fn put(&self, name: &str) {
        self.put_for(name, 3_600);
    }

    fn put_for(&self, name: &str, seconds: i64) {
        let body = json!({"value": "v", "expiresOn": from_now(seconds)}).to_string();
        let put = Request::put(secret(name), body).bearer(&self.token);
        assert_eq!(self.server.send(&put).status, 204);
    }
}

#[test]
fn who_is_told_and_how_changes_at_a_reload() {
    let served = Served::start();
    let (one, other) = (Receiver::start(), Receiver::start());
    let key = Receiver::key_file(served.folder.path());
    let to = |receiver: &Receiver| {
        format!("url = {:?}\nsecret_file = {key:?}\nevery = \"100ms\"\n", receiver.url())
    };
    served.put("early");
    served.reload(&to(&one), "changed notify.url, notify.secret_file, notify.every");
    one.waits_for("expiring", "early", &TAKEN);
    served.reload(&to(&other), "changed notify.url");
    served.put("second");
    other.waits_for("expiring", "second", &TAKEN);

    let hashed = to(&other) + "names = \"hashed\"\n";
    served.reload(&hashed, "changed notify.names");
    served.put("hidden");
    let shared = tenure::crypto::WebhookKey::parse(&std::fs::read_to_string(&key).unwrap());
    other.waits_for("expiring", &shared.unwrap().hide("dev", "hidden"), &TAKEN);

    served.reload(&(to(&other) + "events = [\"expired\"]\n"), "changed notify.events");
    served.put_for("ends", 2);
    other.waits_for("expired", "ends", &TAKEN);
    served.reload("", "changed notify.url");
    served.put("nobody");
    served.reload(&to(&one), "changed notify.url");
    served.put("last");
    one.waits_for("expiring", "last", &TAKEN);
    for name in ["ends", "nobody"] {
        assert!(!other.received().iter().any(|told| told.tells("expiring", name)), "{name}");
    }
    assert!(!one.received().iter().any(|told| told.tells("expiring", "second")));
    let log = served.server.log();
    assert!(!log.contains("whsec") && !log.contains("t0ken"), "{log}");
}

#[test]
fn a_reload_that_cannot_tell_changes_nothing_and_says_so() {
    let served = Served::start();
    let receiver = Receiver::start();
    let key = Receiver::key_file(served.folder.path());
    let good = format!("url = {:?}\nsecret_file = {key:?}\nevery = \"100ms\"", receiver.url());
    served.reload(&good, "changed notify.url");
    for (bad, said) in [
        ("secret_file = \"/nowhere/at-all\"", "openssl rand"),
        ("ca_file = \"/nowhere/at-all\"", "notify.ca_file: /nowhere/at-all cannot be read"),
        ("url = \"ftp://127.0.0.1/\"", "notify.url"),
        ("every = \"1ms\"", "notify.every"),
    ] {
        let key = bad.split(' ').next().unwrap();
        let lines = good.lines().filter(|line| !line.starts_with(key));
        let text: Vec<_> = lines.chain([bad]).collect();
        served.reload(&text.join("\n"), "nothing was changed: ");
        let log = served.server.log();
        let error = log.lines().rfind(|line| line.contains("nothing was changed")).unwrap();
        assert!(error.contains("ERROR") && error.contains(said), "{error}");
        served.put(&format!("after-{key}"));
        receiver.waits_for("expiring", &format!("after-{key}"), &TAKEN);
    }
}

#[test]
fn a_key_that_was_replaced_in_its_file_signs_from_the_reload_on() {
    let served = Served::start();
    let receiver = Receiver::start();
    let key = Receiver::key_file(served.folder.path());
    let shared = std::fs::read_to_string(&key).unwrap();
    // One that the receiver does not have.
    std::fs::write(&key, "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n").unwrap();
    let notify = format!("url = {:?}\nsecret_file = {key:?}\nevery = \"100ms\"", receiver.url());
    served.reload(&notify, "changed notify.url");
    served.put("signed");
    let refused = receiver.waits_for("expiring", "signed", &Reply::Status(401));
    std::fs::write(&key, shared).unwrap();
    served.signal("nothing changed");
    let taken = receiver.waits_for("expiring", "signed", &TAKEN);
    assert_eq!(taken.events()[0]["id"], refused.events()[0]["id"], "it is the same event");
}
