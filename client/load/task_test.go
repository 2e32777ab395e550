package load

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"

	"dems"
)

func aTask(of kind) *task {
	customer := dems.UserID{City: dems.City{'T', 'O', 'R'}, Role: dems.Customer, Number: 42}
	return &task{kind: of, by: customer, customer: customer, event: dems.EventKey{Type: dems.TradeShow, ID: dems.EventID{
		City: dems.City{'T', 'O', 'R'}, Slot: dems.Evening, Date: dems.Date{Year: 50, Month: 3, Day: 4},
	}}}
}

// TestRequests has net/http read what was written by hand.
func TestRequests(t *testing.T) {
	to := &endpoint{host: "example.com:80", prefix: "/dems"}
	for of, want := range []struct{ method, path, key, contentType, body string }{
		book:     {"POST", "/dems/v1/customers/TORC0042/bookings", "k", "application/json", `{"eventType":"tradeshow","eventID":"TORE040350"}`},
		cancel:   {"DELETE", "/dems/v1/customers/TORC0042/bookings/TORE040350?eventType=tradeshow", "k", "", ""},
		schedule: {"GET", "/dems/v1/customers/TORC0042/bookings", "", "", ""},
		show:     {"GET", "/dems/v1/events/tradeshow/TORE040350", "", "", ""},
	} {
		for _, key := range []string{"k", ""} {
			text := appendRequest(nil, to, aTask(kind(of)), []byte(key))
			reader := bufio.NewReader(bytes.NewReader(text))
			request, err := http.ReadRequest(reader)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			body, err := io.ReadAll(request.Body)
			if err != nil {
				t.Fatal(err)
			}
			header := request.Header
			if request.Method != want.method || request.RequestURI != want.path || request.Host != "example.com:80" || string(body) != want.body ||
				header.Get("Content-Type") != want.contentType || header.Get("Dems-User") != "TORC0042" || reader.Buffered() > 0 {
				t.Errorf("%s is sent as\n%s", kindNames[of], text)
			}
			if got := header.Get("Idempotency-Key"); key != "" && got != want.key || key == "" && got != "" {
				t.Errorf("%s has the key %q", kindNames[of], got)
			}
		}
	}
}

func TestJudgement(t *testing.T) {
	for _, test := range []struct {
		of     kind
		status int
		body   string
		want   string
	}{
		{book, 201, `{"outcome":"booked","booking":{"eventID":"TORE040350"}}`, ""},
		{book, 201, `{"outcome":"booked","booking":{"eventID":"TORE050350"}}`, wrongAnswer},
		{book, 200, `{"outcome":"booked","booking":{"eventID":"TORE040350"}}`, wrongAnswer},
		{book, 201, `{"outcome":"cancelled","booking":{"eventID":"TORE040350"}}`, wrongAnswer},
		{book, 409, `{"detail":"Full.","code":"event_full"}`, "event_full"},
		{book, 503, `{"code":"unavailable"}`, "unavailable"},
		{book, 503, `<html>`, wrongAnswer},
		{book, 503, `{"code":"unavailable`, wrongAnswer},
		{book, 302, `{"code":"event_full"}`, wrongAnswer},
		{cancel, 200, `{"outcome":"cancelled","booking":{"eventID":"TORE040350"}}`, ""},
		{schedule, 200, `{"customerID":"TORC0042","bookings":[{"eventID":"TORE040350"}]}`, ""},
		{schedule, 200, `{"customerID":"TORC0042","bookings":[]}`, wrongAnswer},
		{show, 200, `{"event":{"eventID":"TORE040350","available":1}}`, ""},
	} {
		if got := judge(aTask(test.of), test.status, []byte(test.body)); got != test.want {
			t.Errorf("%s %d %s is %q, want %q", kindNames[test.of], test.status, test.body, got, test.want)
		}
	}
}

func TestFailuresAreNotRefusals(t *testing.T) {
	for code, want := range map[string]bool{
		"unavailable": true, "indeterminate": true, "no_majority": true, "internal": true, "rate_limited": true,
		wrongAnswer: true, noConnection: true, noAnswer: true, "never_heard": true,
		"event_full": false, "already_booked": false, "monthly_limit": false, "malformed_request": false,
	} {
		if isFailure(code) != want {
			t.Errorf("%s: failure %t, want %t", code, !want, want)
		}
	}
}

// TestTurns: every customer books an event once, then cancels, then books again.
func TestTurns(t *testing.T) {
	s := &stage{customers: 5, events: []*event{{key: aTask(book).event, base: 2}}}
	random := rand.New(rand.NewPCG(1, 2))
	for turn, want := range []kind{book, book, book, cancel, cancel, cancel, book} {
		got := s.choose(Book, random)
		if got.kind != want || got.customer.Number != uint16(2+turn%3) || got.by != got.customer || got.event.IsForeign(got.customer) {
			t.Errorf("turn %d: %+v, want %s by customer %d", turn, got, kindNames[want], 2+turn%3)
		}
	}
}

// TestEventsBeginWithDifferentCustomers: otherwise a few customers would have all bookings, and schedules no one has.
func TestEventsBeginWithDifferentCustomers(t *testing.T) {
	key := aTask(book).event
	s := &stage{customers: 10, events: []*event{{key: key}, {key: key, first: 7}}}
	if a, b := s.customer(s.events[0], 0), s.customer(s.events[1], 0); a.Number != 0 || b.Number != 7 {
		t.Errorf("first customers %s and %s", a, b)
	}
	if last := s.customer(s.events[1], 9); last.Number != 6 {
		t.Errorf("last customer %s", last)
	}
}

func TestMixes(t *testing.T) {
	key := aTask(book).event
	s := &stage{customers: 10_000, events: []*event{{key: key, base: 1}}, seeded: []booking{{customer: homeCustomer(key, 0), event: key}}}
	random := rand.New(rand.NewPCG(1, 2))
	for mix, want := range map[Mix][kinds]bool{
		Book: {book: true}, Read: {schedule: true, show: true}, Mixed: {book: true, schedule: true, show: true},
	} {
		var seen [kinds]bool
		for range 200 {
			chosen := s.choose(mix, random)
			seen[chosen.kind] = true
			if chosen.kind == show && !chosen.by.IsManager() {
				t.Errorf("an event is asked for by %s", chosen.by)
			}
		}
		if seen != want {
			t.Errorf("%s: %v, want %v", mix, seen, want)
		}
	}
}

func BenchmarkRequestAndJudgement(b *testing.B) {
	to, t, key := &endpoint{host: "127.0.0.1:8080"}, aTask(book), []byte("ABCDEFGHIJKL-12-3456")
	answer := []byte(`{"outcome":"booked","booking":{"customerID":"TORC0042","eventID":"TORE040350","eventType":"tradeshow"}}`)
	buffer := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buffer = appendRequest(buffer[:0], to, t, key)
		if code := judge(t, 201, answer); code != "" {
			b.Fatal(code)
		}
	}
}
