//! `healthcheck`: asks the running service, as Docker's HEALTHCHECK does in an image without a
//! shell. The result is about the program, not about the batteries.

use hyper::StatusCode;

use super::args::Command;
use super::http::Service;
use super::{FAILED, Outcome, SUCCESS, load_config};

pub(super) const COMMAND: Command = Command {
    name: "healthcheck",
    about: "Ask the running service whether it is healthy (for Docker's HEALTHCHECK)",
    positional: None,
    flags: &[],
    prepare: |_| Ok(Box::pin(run())),
};

async fn run() -> Outcome {
    let Some(listen) = load_config()?.http.map(|http| http.listen) else {
        println!("not checked: HTTP_LISTEN is off");
        return Ok(SUCCESS);
    };
    match Service::local(listen, None).get("/healthz").await {
        Ok((StatusCode::OK, _)) => {
            println!("healthy");
            return Ok(SUCCESS);
        }
        Ok((_, answer)) => match answer["error"].as_str() {
            Some(error) => println!("unhealthy: {error}"),
            None => println!("unhealthy: {answer}"),
        },
        Err(error) => println!("{error}; is bms-reader running?"),
    }
    Ok(FAILED)
}
