package fsm

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"dems"
)

// TestTextsNeedNoEscaping holds AppendRecord to what it assumes.
func TestTextsNeedNoEscaping(t *testing.T) {
	texts := []string{}
	for _, code := range dems.Codes() {
		texts = append(texts, code.String(), (&dems.Result{Code: code}).Text(&dems.Command{}))
	}
	result := dems.Result{
		Event: dems.EventView{Key: key("seminar", "TORM100519"), Capacity: 3}, Booking: key("seminar", "TORM100519"),
		Old: key("tradeshow", "MTLE311299"), Customer: user("TORC0001"),
	}
	for op := dems.AddEvent; op <= dems.GetEvent; op++ {
		texts = append(texts, op.String(), result.Text(&dems.Command{Op: op}))
	}
	for outcome := dems.NoOutcome; outcome <= dems.Rebooked; outcome++ {
		texts = append(texts, outcome.String())
	}
	for _, text := range texts {
		quoted, err := json.Marshal(text)
		if err != nil || string(quoted) != `"`+text+`"` || strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII }) {
			t.Errorf("%q is %s as JSON", text, quoted)
		}
	}
}

// TestRecordsAreJSON makes records of random commands with every result and reads them back.
func TestRecordsAreJSON(t *testing.T) {
	c := &comparison{random: rand.New(rand.NewPCG(5, 6)), model: newModel(1), first: New(dems.DefaultCities()), now: testTime}
	for range 5000 / slowdown {
		command := c.command()
		result := dems.Result{Sequence: c.random.Uint64N(1000), Code: c.first.Cities().Check(&command)}
		if result.Code == dems.OK {
			c.first.index++
			c.first.operate(&command, &result)
		}
		line := AppendRecord([]byte("before"), &command, &result)
		line, found := bytes.CutPrefix(line, []byte("before"))
		if !found || !bytes.HasSuffix(line, []byte("\n")) || bytes.Count(line, []byte("\n")) != 1 || !slices.Equal(line, bytes.ToValidUTF8(line, nil)) {
			t.Fatalf("%q is not one line", line)
		}
		var read map[string]any
		if err := json.Unmarshal(line, &read); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		checkRecord(t, read, &command, &result)
	}
}

// checkRecord compares what stands in a record with the command and the result.
func checkRecord(t *testing.T, read map[string]any, command *dems.Command, result *dems.Result) {
	t.Helper()
	want := map[string]any{
		"time": command.Time.Format("2006-01-02T15:04:05.000Z"), "seq": float64(result.Sequence), "op": command.Op.String(),
	}
	response := map[string]any{"text": result.Text(command)}
	want["status"], want["response"] = "completed", response
	if result.Outcome != dems.NoOutcome {
		response["outcome"] = result.Outcome.String()
	}
	if result.Code != dems.OK {
		want["status"], response["code"] = "failed", result.Code.String()
	}
	for name, value := range want {
		if !reflect.DeepEqual(read[name], value) {
			t.Fatalf("%s is %v, want %v in %v", name, read[name], value, read)
		}
	}
	if isSyntax(result.Code) {
		return // parameters may be missing
	}
	if read["by"] != command.By.String() || (read["for"] != nil) != (command.Op.ForCustomer() && command.Customer != command.By) {
		t.Fatalf("by %v for %v: %+v", read["by"], read["for"], command)
	}
	// The parameters, read as a request, are the command again.
	text := func(name string) string {
		value, _ := read[name].(string)
		return value
	}
	request := dems.Request{
		Op: text("op"), By: text("by"), CustomerID: text("customerID"), EventID: text("eventID"), EventType: text("eventType"),
		NewEventID: text("newEventID"), NewEventType: text("newEventType"), OldEventID: text("oldEventID"),
		OldEventType: text("oldEventType"), Bookings: text("bookings"), Key: text("key"), KeyGiven: read["key"] != nil,
	}
	if capacity, found := read["capacity"].(float64); found {
		request.Capacity = json.Number(string(appendCapacity(nil, capacity))).String()
	}
	parsed, err := dems.DefaultCities().Parse(request)
	if err != nil {
		t.Fatalf("%v: %v", read, err)
	}
	parsed.Time = command.Time
	if parsed != recorded(command) {
		t.Fatalf("%v\nreads as %+v\nof       %+v", read, parsed, *command)
	}
}

func appendCapacity(dst []byte, capacity float64) []byte {
	text, err := json.Marshal(uint32(capacity))
	if err != nil {
		panic(err)
	}
	return append(dst, text...)
}

// recorded returns a command without the parts that its operation does not have.
func recorded(command *dems.Command) dems.Command {
	clean := *command
	if !command.Op.ForCustomer() {
		clean.Customer = dems.UserID{}
	}
	if command.Op != dems.SwapEvent {
		clean.OldEvent = dems.EventKey{}
	}
	if command.Op != dems.AddEvent {
		clean.Capacity = 0
	}
	if command.Op != dems.RemoveEvent {
		clean.Bookings = dems.Rebook
	}
	switch command.Op {
	case dems.GetBookingSchedule:
		clean.Event = dems.EventKey{}
	case dems.ListEventAvailability:
		clean.Event.ID = dems.EventID{}
	}
	return clean
}

func TestRecordTimes(t *testing.T) {
	for _, moment := range []time.Time{
		time.UnixMilli(0), time.UnixMilli(1<<47 - 1), testTime, time.Date(2024, 2, 29, 23, 59, 59, 999e6, time.UTC),
		time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.FixedZone("somewhere", 3600)), {},
	} {
		if got, want := string(appendTime(nil, moment)), moment.UTC().Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestRecordCities(t *testing.T) {
	swap := dems.Command{Op: dems.SwapEvent, By: user("TORM0001"), Customer: user("MTLC0001"),
		Event: key("seminar", "MTLM100519"), OldEvent: key("seminar", "OTWM100519")}
	unknown := book("TORC0001", "seminar", "MTLM100519")
	unknown.By.City = dems.City{'X', 'Y', 'Z'}
	malformed := book("TORC0001", "seminar", "MTLM100519")
	malformed.By.Number = 20_000
	for _, test := range []struct {
		name    string
		command dems.Command
		code    dems.Code
		want    string
	}{
		{"own city", book("TORC0001", "seminar", "TORM100519"), dems.OK, "TOR"},
		{"another city", book("TORC0001", "seminar", "MTLM100519"), dems.OK, "TOR MTL"},
		{"refused", book("TORC0001", "seminar", "MTLM100519"), dems.EventFull, "TOR MTL"},
		{"three cities", swap, dems.OK, "TOR MTL OTW"},
		{"a read of one event", dems.Command{Op: dems.GetEvent, By: user("TORM0001"), Event: key("seminar", "MTLM100519")}, dems.OK, "TOR MTL"},
		{"a list", dems.Command{Op: dems.ListEventAvailability, By: user("TORM0001"), Event: key("seminar", "MTLM100519")}, dems.OK, "TOR"},
		{"a schedule", dems.Command{Op: dems.GetBookingSchedule, By: user("TORM0001"), Customer: user("MTLC0001")}, dems.OK, "TOR"},
		{"syntax", book("TORC0001", "seminar", "MTLM100519"), dems.InvalidEventType, "TOR"},
		{"an unknown user", unknown, dems.InvalidUserID, ""},
		{"a malformed user", malformed, dems.InvalidUserID, ""},
	} {
		var names []string
		for _, city := range RecordCities(nil, dems.DefaultCities(), &test.command, test.code) {
			names = append(names, city.String())
		}
		if got := strings.Join(names, " "); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// TestRecordOfMalformedCommand shows that a record of what cannot be read is still a record.
func TestRecordOfMalformedCommand(t *testing.T) {
	bad := dems.Command{Op: 200, By: dems.UserID{City: dems.City{'"', '\\', 0}}, Key: "\"\n", Customer: user("TORC0001"),
		Event: dems.EventKey{Type: 9, ID: dems.EventID{Slot: 200}}, Bookings: 77}
	line := AppendRecord(nil, &bad, &dems.Result{Code: dems.MalformedRequest, Sequence: 5})
	want := `{"time":"0001-01-01T00:00:00.000Z","seq":5,"op":"unknown","customerID":"TORC0001","status":"failed",` +
		`"response":{"code":"malformed_request","text":"The request could not be read; correct it and send it again."}}`
	if got := strings.Replace(string(line), `"for":"TORC0001",`, "", 1); got != want+"\n" {
		t.Errorf("%s", got)
	}
	h := newHarness(t)
	h.want(dems.InvalidUserID, dems.Command{Op: dems.AddEvent, By: dems.UserID{City: dems.City{'"', '\\', 0}}})
	if len(h.last.Records) != 0 {
		t.Error("a user of no city has a record")
	}
}

func TestChainTellsOrderAndContent(t *testing.T) {
	var none dems.Digest
	a, b := []byte("a\n"), []byte("b\n")
	chains := []dems.Digest{none, ChainRecord(none, a), ChainRecord(none, b), ChainRecord(ChainRecord(none, a), b), ChainRecord(ChainRecord(none, b), a), ChainRecord(none, []byte("a\nb\n"))}
	for i := range chains {
		if slices.Contains(chains[i+1:], chains[i]) {
			t.Errorf("chain %d stands twice", i)
		}
	}
}
