package history

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dems"
)

func drawEvent(t *rapid.T) dems.EventKey {
	day := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rapid.IntRange(0, 36524).Draw(t, "day"))
	return dems.EventKey{Type: rapid.SampledFrom(dems.EventTypes[:]).Draw(t, "type"), ID: dems.EventID{
		City: rapid.SampledFrom(dems.DefaultCities()).Draw(t, "city").City,
		Slot: rapid.SampledFrom([]dems.Slot{dems.Morning, dems.Afternoon, dems.Evening}).Draw(t, "slot"),
		Date: dems.Date{Year: uint8(day.Year() - 2000), Month: uint8(day.Month()), Day: uint8(day.Day())},
	}}
}

func drawUser(t *rapid.T) dems.UserID {
	return dems.UserID{
		City:   rapid.SampledFrom(dems.DefaultCities()).Draw(t, "home").City,
		Role:   rapid.SampledFrom([]dems.Role{dems.Manager, dems.Customer}).Draw(t, "role"),
		Number: rapid.Uint16Range(0, 9999).Draw(t, "user"),
	}
}

func maybe[T any](t *rapid.T, draw func(*rapid.T) T) T {
	var none T
	if rapid.Bool().Draw(t, "there") {
		return draw(t)
	}
	return none
}

func list[T any](t *rapid.T, draw func(*rapid.T) T) []T {
	var values []T
	for range rapid.IntRange(0, 3).Draw(t, "length") {
		values = append(values, draw(t))
	}
	return values
}

func drawCommand(t *rapid.T) dems.Command {
	c := dems.Command{
		Op: dems.Op(rapid.ByteRange(byte(dems.AddEvent), byte(dems.GetEvent)).Draw(t, "op")), By: drawUser(t),
		Customer: maybe(t, drawUser), Event: maybe(t, drawEvent),
		Key: rapid.SampledFrom([]string{"", "key", `"<&>\`, strings.Repeat("k", dems.MaxKeyBytes)}).Draw(t, "key"),
	}
	switch c.Op {
	case dems.AddEvent:
		c.Capacity = rapid.Uint32().Draw(t, "capacity")
	case dems.RemoveEvent:
		c.Bookings = dems.BookingPolicy(rapid.ByteRange(0, byte(dems.Refuse)).Draw(t, "bookings"))
	case dems.CancelEvent:
		c.Event.Type = 0
	case dems.SwapEvent:
		c.OldEvent = maybe(t, drawEvent)
	}
	return c
}

func drawView(t *rapid.T) dems.EventView {
	return dems.EventView{
		Key: drawEvent(t), Capacity: rapid.Uint32().Draw(t, "capacity"), Booked: rapid.Uint32().Draw(t, "booked"),
	}
}

func drawResult(t *rapid.T) dems.Result {
	outcome := rapid.ByteRange(0, byte(dems.Rebooked))
	return dems.Result{
		Code:     rapid.SampledFrom(append(dems.Codes(), dems.OK)).Draw(t, "code"),
		Outcome:  dems.Outcome(outcome.Draw(t, "outcome")),
		Replayed: rapid.Bool().Draw(t, "replayed"),
		Sequence: rapid.Uint64().Draw(t, "sequence"),
		Event:    maybe(t, drawView), Booking: maybe(t, drawEvent), Old: maybe(t, drawEvent), Customer: maybe(t, drawUser),
		Type: maybe(t, drawEvent).Type,
		Affected: list(t, func(t *rapid.T) dems.Affected {
			return dems.Affected{Customer: drawUser(t), Outcome: dems.Outcome(outcome.Draw(t, "became")), Event: maybe(t, drawEvent)}
		}),
		Events: list(t, drawView), Bookings: list(t, drawEvent),
	}
}

func drawOperation(t *rapid.T, last uint64) Operation {
	o := Operation{
		Number:  last + rapid.Uint64Range(1, 5).Draw(t, "further"),
		Group:   rapid.IntRange(0, math.MaxInt32).Draw(t, "group"),
		Client:  rapid.IntRange(0, math.MaxInt32).Draw(t, "client"),
		Call:    time.Duration(rapid.Int64Range(0, math.MaxInt64/2).Draw(t, "call")),
		Command: drawCommand(t),
		Outcome: rapid.SampledFrom([]Outcome{Answered, Failed, Unknown}).Draw(t, "outcome"),
		Error:   errorText(errors.New(rapid.String().Draw(t, "error"))),
	}
	o.Return = o.Call + time.Duration(rapid.Int64Range(0, math.MaxInt64/2).Draw(t, "took"))
	if o.Outcome == Answered {
		o.Result = drawResult(t)
	}
	return o
}

// TestRoundTrip shows that a file holds exactly what was recorded, and that it is the only file that does.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		header := Header{Seed: rapid.Uint64().Draw(t, "seed"), Began: time.Unix(0, rapid.Int64().Draw(t, "began")).UTC()}
		var operations []Operation
		var last uint64
		for range rapid.IntRange(0, 5).Draw(t, "operations") {
			operations = append(operations, drawOperation(t, last))
			last = operations[len(operations)-1].Number
		}
		var file bytes.Buffer
		if err := Write(&file, header, operations); err != nil {
			t.Fatal(err)
		}
		written := file.String()
		gotHeader, got, err := Read(&file)
		if err != nil {
			t.Fatalf("%v\n%s", err, written)
		}
		if gotHeader != header || !reflect.DeepEqual(got, operations) {
			t.Fatalf("(-want +got):\n%s%s\n%s", cmp.Diff(header, gotHeader), cmp.Diff(operations, got), written)
		}
	})
}

// booked is a history of two operations, as people see it.
const booked = `{"format":"dems-history","version":1,"seed":7,"began":"2026-03-01T12:00:00.5Z","operations":2}
{"number":1,"group":3,"client":0,"call":0.001000000,"return":1.500000000,"as":"TORM0001",` +
	`"do":{"op":"addEvent","eventID":"TORM100519","eventType":"seminar","capacity":3,"key":"k1"},"outcome":"answered",` +
	`"result":{"outcome":"created","sequence":12,"event":{"eventID":"TORM100519","eventType":"seminar","capacity":3,"booked":0}}}
{"number":2,"group":3,"client":1,"call":1.600000000,"return":6.000000001,"as":"MTLC0001",` +
	`"do":{"op":"bookEvent","customerID":"MTLC0001","eventID":"TORM100519","eventType":"seminar","key":"k2"},` +
	`"outcome":"unknown","error":"504 indeterminate"}
`

func TestRead(t *testing.T) {
	header, operations, err := Read(strings.NewReader(booked))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Header{Seed: 7, Began: time.Date(2026, 3, 1, 12, 0, 0, 5e8, time.UTC)}); header != want {
		t.Errorf("header %+v, want %+v", header, want)
	}
	seminar := dems.EventKey{Type: dems.Seminar, ID: dems.EventID{
		City: dems.City{'T', 'O', 'R'}, Slot: dems.Morning, Date: dems.Date{Year: 19, Month: 5, Day: 10},
	}}
	customer := dems.UserID{City: dems.City{'M', 'T', 'L'}, Role: dems.Customer, Number: 1}
	want := []Operation{
		{
			Number: 1, Group: 3, Call: time.Millisecond, Return: 1500 * time.Millisecond, Outcome: Answered,
			Command: dems.Command{
				Op: dems.AddEvent, Event: seminar, Capacity: 3, Key: "k1",
				By: dems.UserID{City: dems.City{'T', 'O', 'R'}, Role: dems.Manager, Number: 1},
			},
			Result: dems.Result{Outcome: dems.Created, Sequence: 12, Event: dems.EventView{Key: seminar, Capacity: 3}},
		},
		{
			Number: 2, Group: 3, Client: 1, Call: 1600 * time.Millisecond, Return: 6*time.Second + 1, Outcome: Unknown,
			Command: dems.Command{Op: dems.BookEvent, By: customer, Customer: customer, Event: seminar, Key: "k2"},
			Error:   "504 indeterminate",
		},
	}
	if difference := cmp.Diff(want, operations); difference != "" {
		t.Errorf("operations (-want +got):\n%s", difference)
	}
	var again strings.Builder
	if err := Write(&again, header, operations); err != nil || again.String() != booked {
		t.Errorf("written again: %v\n%s", err, cmp.Diff(booked, again.String()))
	}
}

// TestReadRefuses changes one thing in a good file.
func TestReadRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		old, new string
		want     string // in the error
	}{
		"another format":       {`"dems-history"`, `"history"`, `line 1: the format is "history"`},
		"another version":      {`"version":1`, `"version":2`, "line 1: the version is 2"},
		"a time not in UTC":    {`00.5Z`, `00.5+02:00`, "line 1: the time at which it began is not UTC"},
		"too many operations":  {`"operations":2`, `"operations":1000001`, "line 1: 1000001 operations"},
		"fewer than none":      {`"operations":2`, `"operations":-1`, "line 1: -1 operations"},
		"more than announced":  {`"operations":2`, `"operations":1`, "line 3: there are more lines than the 1 operations"},
		"fewer than announced": {`"operations":2`, `"operations":3`, "line 4: the file is cut off here"},
		"cut off in a line":    {"indeterminate\"}\n", "indeterminate\"}", "line 3: the file is cut off here"},
		"no JSON":              {`{"number":1`, `{number:1`, "line 2: invalid character"},
		"an unknown field":     {`"group":3,"client":1`, `"group":3,"colour":1`, `line 3: json: unknown field "colour"`},
		"a repeated field":     {`"group":3,"client":1`, `"group":2,"group":3,"client":1`, "line 3: not as it would be written"},
		"another spelling":     {`"as":"MTLC0001"`, `"as":"mtlc0001"`, "line 3: not as it would be written"},
		"a space":              {`"group":3,"client":1`, `"group":3, "client":1`, "line 3: not as it would be written"},
		"something behind":     {`indeterminate"}`, `indeterminate"}{}`, "line 3: not as it would be written"},
		"a number again":       {`"number":2`, `"number":1`, "line 3: number 1 after 1"},
		"no group":             {`"group":3,"client":1`, `"group":-3,"client":1`, "line 3: group -3"},
		"a time of whole":      {`6.000000001`, `6`, "line 3: 6 is not a time"},
		"a time in tens":       {`6.000000001`, `0.6000000001e1`, "line 3: 0.6000000001e1 is not a time"},
		"a negative time":      {`1.600000000`, `-0.600000000`, "line 3: "},
		"back in time":         {`6.000000001`, `1.000000001`, "line 3: called at 1.6s, returned at 1.000000001s"},
		"an unknown operation": {`"bookEvent"`, `"buyEvent"`, `line 3: there is no operation "buyEvent"`},
		"no such customer":     {`"MTLC0001","do"`, `"MTLX0001","do"`, "line 3: "},
		"no such event":        {`"TORM100519","eventType":"seminar","key"`, `"TORM310219","eventType":"seminar","key"`, "line 3: "},
		"an unknown outcome":   {`"outcome":"unknown"`, `"outcome":"lost"`, "line 3: the outcome is answered, failed or unknown"},
		"no result":            {`"outcome":"unknown"`, `"outcome":"answered"`, "line 3: an operation has a result exactly if"},
		"a result of nothing":  {`"outcome":"answered"`, `"outcome":"failed"`, "line 2: an operation has a result exactly if"},
		"an unknown code":      {`"outcome":"created"`, `"code":"sold_out"`, `line 2: there is no code "sold_out"`},
		"an unknown success":   {`"outcome":"created"`, `"outcome":"made"`, `line 2: there is no outcome "made"`},
		"a bad key":            {`"k2"`, `"k 2"`, "line 3: the key is not an idempotency key"},
		"a long error":         {`504 indet`, strings.Repeat("5", MaxErrorBytes), "line 3: the error is longer than 512 bytes"},
		"a long line":          {`504 indet`, strings.Repeat("5", MaxLineBytes), "line 3: longer than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(booked, test.old, test.new, 1)
			if changed == booked {
				t.Fatal("nothing was changed")
			}
			if header, operations, err := Read(strings.NewReader(changed)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, %+v, %+v; want an error with %q", err, header, operations, test.want)
			}
		})
	}
}

func TestReadTellsWhatTheReaderSays(t *testing.T) {
	broken := errors.New("the disk is gone")
	for length := range len(booked) {
		_, _, err := Read(io.MultiReader(strings.NewReader(booked[:length]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) {
			t.Fatalf("after %d bytes: %v", length, err)
		}
	}
	if _, _, err := Read(io.MultiReader(strings.NewReader(booked), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("at the end: %v", err)
	}
}

// brokenWriter takes a number of bytes and then fails.
type brokenWriter struct{ left int }

var errDiskFull = errors.New("disk full")

func (w *brokenWriter) Write(data []byte) (int, error) {
	if w.left -= len(data); w.left < 0 {
		return 0, errDiskFull
	}
	return len(data), nil
}

func TestWriteRefuses(t *testing.T) {
	_, good, err := Read(strings.NewReader(booked))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(o *Operation){
		"no number":                 func(o *Operation) { o.Number = 0 },
		"a group below 0":           func(o *Operation) { o.Group = -1 },
		"back in time":              func(o *Operation) { o.Return = o.Call - 1 },
		"no outcome":                func(o *Operation) { o.Outcome = 0 },
		"no operation":              func(o *Operation) { o.Command.Op = 0 },
		"a time":                    func(o *Operation) { o.Command.Time = time.Unix(1, 0) },
		"an old event":              func(o *Operation) { o.Command.OldEvent = o.Command.Event },
		"a date that is none":       func(o *Operation) { o.Command.Event.ID.Date.Day = 32 },
		"a type that is none":       func(o *Operation) { o.Command.Event.Type = 4 },
		"a slot that is none":       func(o *Operation) { o.Command.Event.ID.Slot = 5 },
		"a user that is none":       func(o *Operation) { o.Command.By.Number = 10_000 },
		"a policy that is none":     func(o *Operation) { o.Command.Op, o.Command.Capacity, o.Command.Bookings = dems.RemoveEvent, 0, 9 },
		"a result of nothing":       func(o *Operation) { o.Outcome = Unknown },
		"a code that is none":       func(o *Operation) { o.Result.Code = 200 },
		"an outcome that is none":   func(o *Operation) { o.Result.Outcome = 200 },
		"a booking that is none":    func(o *Operation) { o.Result.Bookings = []dems.EventKey{{ID: dems.EventID{Slot: 1}}} },
		"an event that is none":     func(o *Operation) { o.Result.Events = make([]dems.EventView, 1); o.Result.Events[0].Key.Type = 9 },
		"affected who is none":      func(o *Operation) { o.Result.Affected = []dems.Affected{{Customer: dems.UserID{Role: 'x'}}} },
		"affected with no outcome":  func(o *Operation) { o.Result.Affected = []dems.Affected{{Outcome: 77}} },
		"an error that is not text": func(o *Operation) { o.Error = "\xff" },
		"a line that is too long":   func(o *Operation) { o.Result.Events = make([]dems.EventView, MaxLineBytes/10) },
	} {
		t.Run(name, func(t *testing.T) {
			changed := slices.Clone(good)
			change(&changed[0])
			if err := Write(io.Discard, Header{}, changed); err == nil || !strings.HasPrefix(err.Error(), "operation ") {
				t.Errorf("written: %v", err)
			}
		})
	}
	if err := Write(io.Discard, Header{}, make([]Operation, MaxOperations+1)); err == nil {
		t.Error("too many operations are written")
	}
	if err := Write(io.Discard, Header{Began: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}, nil); err == nil {
		t.Error("a year that cannot be read is written")
	}
	for _, left := range []int{0, 10, 100_000} {
		many := make([]Operation, 2000)
		for i := range many {
			many[i] = good[0]
			many[i].Number = uint64(i) + 1
		}
		if err := Write(&brokenWriter{left}, Header{}, many); !errors.Is(err, errDiskFull) {
			t.Errorf("with room for %d bytes: %v", left, err)
		}
	}
}

// FuzzRead shows that nothing makes Read fall over, and that what it accepts is written in one way.
func FuzzRead(f *testing.F) {
	f.Add([]byte(booked))
	f.Add([]byte(booked[:200]))
	f.Add([]byte(`{"format":"dems-history","version":1,"seed":0,"began":"0001-01-01T00:00:00Z","operations":0}` + "\n"))
	f.Add([]byte(strings.Replace(booked, `"result":{`, `"result":{"code":"event_full","affected":[{}],`, 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		header, operations, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := Write(&again, header, operations); err != nil {
			t.Fatalf("%v: %+v", err, operations)
		}
		if !bytes.Equal(again.Bytes(), data) {
			t.Fatalf("read\n%s\nwritten\n%s", data, again.Bytes())
		}
	})
}
