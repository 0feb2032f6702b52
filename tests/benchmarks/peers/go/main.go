// By hand in Go: net/http and franz-go. peer ADDRESS BOOTSTRAP TOPIC
package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type price struct {
	Unit      string `json:"unit"`
	Currency  string `json:"currency"`
	RateToCNY string `json:"rate_to_cny"`
}

type data struct {
	Channel    string `json:"channel"`
	MessageID  string `json:"message_id"`
	To         string `json:"to"`
	StatusCode string `json:"status_code"`
	Delivered  bool   `json:"delivered"`
	Result     string `json:"result"`
	Segments   int    `json:"segments"`
	SentAt     string `json:"sent_at"`
	DoneAt     string `json:"done_at"`
	Ext        string `json:"ext,omitempty"`
	Price      price  `json:"price"`
}

type event struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Data            data      `json:"data"`
}

func main() {
	// Handlers wait for their record, so it must not wait for others: franz-go lingers for 10 ms by default.
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(os.Args[2], ",")...), kgo.DefaultProduceTopic(os.Args[3]), kgo.ProducerLinger(0))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /callbacks/sms-dr", func(w http.ResponseWriter, r *http.Request) {
		err := r.ParseForm()
		form := r.PostForm
		id := form.Get("messageid")
		segments, notNumber := strconv.Atoi(form.Get("size"))
		if err != nil || id == "" || notNumber != nil {
			http.Error(w, "error", http.StatusBadRequest)
			return
		}
		status := form.Get("status")
		value, _ := json.Marshal(event{"1.0", id, "/by-hand/sms-dr", "sms.dr", id, time.Now().UTC(), "application/json", data{
			"sms", id, "+" + form.Get("phone"), status, status == "2", form.Get("result"), segments, form.Get("sendtime"),
			form.Get("drtime"), form.Get("ext"), price{form.Get("price"), form.Get("currency"), form.Get("rate")}}})
		if err := client.ProduceSync(r.Context(), &kgo.Record{Key: []byte(id), Value: value}).FirstErr(); err != nil {
			http.Error(w, "error", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "success")
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
