//! By hand in Rust: axum and rdkafka. peer ADDRESS BOOTSTRAP TOPIC

use std::{env::args, time::Duration};

use axum::{Form, Router, extract::State, http::StatusCode, routing::post};
use chrono::{SecondsFormat, Utc};
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord},
};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Receipt {
    messageid: String,
    phone: String,
    status: String,
    result: String,
    size: u32,
    sendtime: String,
    drtime: String,
    price: String,
    currency: String,
    rate: String,
    ext: Option<String>,
}

type Kafka = (FutureProducer, &'static str);

async fn accept(State((producer, topic)): State<Kafka>, Form(form): Form<Receipt>) -> (StatusCode, &'static str) {
    let event = json!({
        "specversion": "1.0", "id": form.messageid, "source": "/by-hand/sms-dr", "type": "sms.dr",
        "subject": form.messageid, "time": Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
        "datacontenttype": "application/json",
        "data": {
            "channel": "sms", "message_id": form.messageid, "to": format!("+{}", form.phone),
            "status_code": form.status, "delivered": form.status == "2", "result": form.result,
            "segments": form.size, "sent_at": form.sendtime, "done_at": form.drtime, "ext": form.ext,
            "price": {"unit": form.price, "currency": form.currency, "rate_to_cny": form.rate},
        },
    });
    let value = event.to_string();
    let record = FutureRecord::to(topic).key(&form.messageid).payload(&value);
    match producer.send(record, Duration::from_secs(10)).await {
        Ok(_) => (StatusCode::OK, "success"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "error"),
    }
}

#[tokio::main]
async fn main() {
    let given: Vec<String> = args().collect();
    let producer = ClientConfig::new()
        .set("bootstrap.servers", &given[2])
        .set("enable.idempotence", "true")
        .create()
        .expect("a producer");
    let topic: &'static str = given[3].clone().leak();
    let app = Router::new().route("/callbacks/sms-dr", post(accept)).with_state((producer, topic));
    let listener = tokio::net::TcpListener::bind(&given[1]).await.expect("the address is free");
    axum::serve(listener, app).await.expect("it serves");
}
