use bytes::Bytes;
use gantry_engine::EngineError;
use gantry_engine::stream::{Chunk, Session, Source};

use super::pump::LONGEST_LINE;
use super::*;

fn chunk(source: Source, text: &str) -> Result<Chunk, EngineError> {
    Ok(Chunk { source, bytes: Bytes::copy_from_slice(text.as_bytes()) })
}

fn source(chunks: impl Stream<Item = Result<Chunk, EngineError>> + Send + 'static) -> LogSource {
    LogSource {
        unit: "u1".to_owned(),
        process: "web".to_owned(),
        lines: Session::of(chunks.boxed()),
    }
}

fn of(chunks: Vec<Result<Chunk, EngineError>>) -> LogSource {
    source(futures_util::stream::iter(chunks))
}

fn text(event: &LogEvent) -> String {
    match event {
        LogEvent::Line(line) => format!("{} {}", line.source, line.text),
        LogEvent::Problem(problem) => format!("problem {}", problem.detail),
        LogEvent::End => "end".to_owned(),
    }
}

async fn all(tails: &Tails, source: LogSource) -> Vec<String> {
    let tail = tails.open("web", "could not read", vec![source], None);
    read(tail, 0).map(|(_, event)| text(&event)).collect().await
}

#[tokio::test]
async fn each_end_has_its_own_lines_and_the_last_needs_no_line_feed() {
    let chunks = vec![
        chunk(Source::Stdout, "one\r\ntw"),
        chunk(Source::Stderr, "bad\n"),
        chunk(Source::Stdout, "o\nthree"),
    ];
    let seen = all(&Tails::default(), of(chunks)).await;
    assert_eq!(seen, ["stdout one", "stderr bad", "stdout two", "stdout three", "end"]);
}

#[tokio::test]
async fn a_line_without_end_is_cut() {
    let chunks = vec![chunk(Source::Stdout, &"x".repeat(LONGEST_LINE + 1))];
    let seen = all(&Tails::default(), of(chunks)).await;
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[1], "stdout x");
}

#[tokio::test]
async fn a_log_that_breaks_says_why() {
    let broken = Err(EngineError::Unreachable("cannot reach `unix:///d`".to_owned()));
    let seen = all(&Tails::default(), of(vec![chunk(Source::Stdout, "one\n"), broken])).await;
    assert_eq!(seen, ["stdout one", "problem cannot reach `unix:///d`"]);
}

#[tokio::test]
async fn a_reader_that_comes_back_goes_on_after_what_it_saw() {
    let tails = Tails::default();
    let lines = (1..=5).map(|n| chunk(Source::Stdout, &format!("{n}\n"))).collect();
    let tail = tails.open("web", "could not read", vec![of(lines)], None);
    let seen: Vec<_> = read(tail, 0).take(2).collect().await;
    let (after, _) = seen.last().unwrap();
    assert!(tails.resume("api", after).is_none(), "the tail of another app");
    assert!(tails.resume("web", "7.1").is_none(), "a tail that never was");
    assert!(tails.resume("web", "1.99").is_none(), "a line that never was");
    let (tail, number) = tails.resume("web", after).unwrap();
    let rest: Vec<_> = read(tail, number).map(|(_, event)| text(&event)).collect().await;
    assert_eq!(rest, ["stdout 3", "stdout 4", "stdout 5", "end"]);
}

#[tokio::test]
async fn a_slow_reader_holds_the_log_back() {
    let produced = Arc::new(Mutex::new(0_u64));
    let count = Arc::clone(&produced);
    let endless = futures_util::stream::repeat_with(move || {
        *count.lock().unwrap() += 1;
        chunk(Source::Stdout, "x\n")
    });
    let tails = Tails::default();
    let tail = tails.open("web", "could not read", vec![source(endless)], None);
    let mut reader = std::pin::pin!(read(tail, 0));
    for _ in 0..10 {
        assert!(reader.next().await.is_some());
        tokio::task::yield_now().await;
    }
    let produced = *produced.lock().unwrap();
    assert!(produced <= AHEAD + 12, "{produced} lines were read for a reader of 10");
}

#[tokio::test]
async fn a_tail_that_nobody_reads_ends() {
    let silent = || source(futures_util::stream::pending());
    let talkative = || source(futures_util::stream::repeat_with(|| chunk(Source::Stdout, "x\n")));
    for source in [silent(), talkative()] {
        let tails = Tails { patience: Duration::from_millis(20), ..Tails::default() };
        let tail = tails.open("web", "could not read", vec![source], None);
        let (weak, reader) = (Arc::downgrade(&tail), read(tail, 0));
        assert!(!weak.upgrade().unwrap().is_abandoned(Duration::ZERO), "as long as somebody reads");
        drop(reader);
        let gone = async {
            while weak.upgrade().is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("it ends");
    }
}
