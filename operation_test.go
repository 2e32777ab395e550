package dems_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dems"
)

var operations = []dems.Op{
	dems.AddEvent, dems.RemoveEvent, dems.ListEventAvailability, dems.BookEvent, dems.GetBookingSchedule,
	dems.CancelEvent, dems.SwapEvent, dems.GetEvent,
}

func TestOperations(t *testing.T) {
	for _, test := range []struct {
		op                             dems.Op
		number                         int
		name                           string
		mutates, managers, forCustomer bool
	}{
		{dems.AddEvent, 1, "addEvent", true, true, false},
		{dems.RemoveEvent, 2, "removeEvent", true, true, false},
		{dems.ListEventAvailability, 3, "listEventAvailability", false, true, false},
		{dems.BookEvent, 4, "bookEvent", true, false, true},
		{dems.GetBookingSchedule, 5, "getBookingSchedule", false, false, true},
		{dems.CancelEvent, 6, "cancelEvent", true, false, true},
		{dems.SwapEvent, 7, "swapEvent", true, false, true},
		{dems.GetEvent, 8, "getEvent", false, true, false},
	} {
		if int(test.op) != test.number || test.op.String() != test.name {
			t.Errorf("%s is %d, want %s, %d", test.op, test.op, test.name, test.number)
		}
		if parsed, ok := dems.ParseOp(test.name); !ok || parsed != test.op {
			t.Errorf("%s does not parse back", test.name)
		}
		if test.op.Mutates() != test.mutates || test.op.ForManagers() != test.managers || test.op.ForCustomer() != test.forCustomer {
			t.Errorf("%s: mutates %t, for managers %t, for customers %t", test.op, test.op.Mutates(), test.op.ForManagers(), test.op.ForCustomer())
		}
	}
	for _, name := range []string{"", "AddEvent", "addevent", "addEvent ", "unknown"} {
		if op, ok := dems.ParseOp(name); ok {
			t.Errorf("%q is %s", name, op)
		}
	}
	if dems.Op(0).String() != "unknown" || dems.Op(200).String() != "unknown" {
		t.Error("what is no operation has a name")
	}
}

func TestBookingPolicies(t *testing.T) {
	for name, want := range map[string]dems.BookingPolicy{
		"": dems.Rebook, "rebook": dems.Rebook, "cancel": dems.CancelBookings, "refuse": dems.Refuse,
	} {
		if got, ok := dems.ParseBookingPolicy(name); !ok || got != want {
			t.Errorf("ParseBookingPolicy(%q) = %s, %t", name, got, ok)
		}
		if name != "" && want.String() != name {
			t.Errorf("%s prints as %s", name, want)
		}
	}
	for _, name := range []string{"Rebook", "cancel ", "delete", "unknown"} {
		if got, ok := dems.ParseBookingPolicy(name); ok {
			t.Errorf("%q is %s", name, got)
		}
	}
	if dems.BookingPolicy(3).String() != "unknown" {
		t.Error("what is no policy has a name")
	}
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		request dems.Request
		want    string // how the parsed command reads, see describe
	}{
		{dems.Request{Op: "addEvent", By: "torm0001", EventID: " torm100519", EventType: "Trade Shows", Capacity: "3"},
			"addEvent by TORM0001 of tradeshow/TORM100519, 3 seats"},
		{dems.Request{Op: "removeEvent", By: "TORM0001", EventID: "TORM100519", EventType: "seminar", Bookings: "refuse"},
			"removeEvent by TORM0001 of seminar/TORM100519, refuse"},
		{dems.Request{Op: "removeEvent", By: "TORM0001", EventID: "TORM100519", EventType: "seminar"},
			"removeEvent by TORM0001 of seminar/TORM100519, rebook"},
		{dems.Request{Op: "listEventAvailability", By: "TORM0001", EventType: "seminars"},
			"listEventAvailability by TORM0001 of seminar/"},
		{dems.Request{Op: "getEvent", By: "TORM0001", EventID: "TORM100519", EventType: "seminar"},
			"getEvent by TORM0001 of seminar/TORM100519"},
		{dems.Request{Op: "bookEvent", By: "MTLC0001", CustomerID: "mtlc0001", EventID: "TORM100519", EventType: "seminar", Key: "k", KeyGiven: true},
			"bookEvent by MTLC0001 for MTLC0001 of seminar/TORM100519, key k"},
		{dems.Request{Op: "getBookingSchedule", By: "MTLC0001", CustomerID: "MTLC0001"},
			"getBookingSchedule by MTLC0001 for MTLC0001 of /"},
		{dems.Request{Op: "cancelEvent", By: "MTLC0001", CustomerID: "MTLC0001", EventID: "TORM100519"},
			"cancelEvent by MTLC0001 for MTLC0001 of /TORM100519"},
		{dems.Request{Op: "cancelEvent", By: "MTLC0001", CustomerID: "MTLC0001", EventID: "TORM100519", EventType: "SEMINAR"},
			"cancelEvent by MTLC0001 for MTLC0001 of seminar/TORM100519"},
		{dems.Request{
			Op: "swapEvent", By: "MTLC0001", CustomerID: "MTLC0001",
			NewEventID: "MTLA110519", NewEventType: "conference", OldEventID: "TORM100519", OldEventType: "seminar",
		}, "swapEvent by MTLC0001 for MTLC0001 of conference/MTLA110519, instead of seminar/TORM100519"},
	} {
		command, err := cities.Parse(test.request)
		if got := describe(command); err != nil || got != test.want {
			t.Errorf("%+v:\ngot  %s, %v\nwant %s", test.request, got, err, test.want)
		}
	}
}

// describe writes a command as one line.
func describe(c dems.Command) string {
	text := c.Op.String() + " by " + c.By.String()
	if c.Customer != (dems.UserID{}) {
		text += " for " + c.Customer.String()
	}
	text += " of " + c.Event.String()
	if c.OldEvent != (dems.EventKey{}) {
		text += ", instead of " + c.OldEvent.String()
	}
	if c.Capacity != 0 {
		text += ", " + strconv.Itoa(int(c.Capacity)) + " seats"
	}
	if c.Op == dems.RemoveEvent || c.Bookings != 0 {
		text += ", " + c.Bookings.String()
	}
	if c.Key != "" {
		text += ", key " + c.Key
	}
	return text
}

// TestParseOrder breaks a request everywhere and then mends it piece by piece, in the documented order of the checks:
// each time the next piece is what is complained about.
func TestParseOrder(t *testing.T) {
	type repair struct {
		code dems.Code // what is wrong before the repair
		mend func(r *dems.Request)
	}
	by := repair{dems.InvalidUserID, func(r *dems.Request) { r.By = "TORM0001" }}
	customer := repair{dems.InvalidUserID, func(r *dems.Request) { r.CustomerID = "TORC0001" }}
	event := repair{dems.InvalidEventID, func(r *dems.Request) { r.EventID = "TORM100519" }}
	newEvent := repair{dems.InvalidEventID, func(r *dems.Request) { r.NewEventID = "TORM100519" }}
	oldEvent := repair{dems.InvalidEventID, func(r *dems.Request) { r.OldEventID = "TORM100519" }}
	eventType := repair{dems.InvalidEventType, func(r *dems.Request) { r.EventType = "seminar" }}
	newType := repair{dems.InvalidEventType, func(r *dems.Request) { r.NewEventType = "seminar" }}
	oldType := repair{dems.InvalidEventType, func(r *dems.Request) { r.OldEventType = "seminar" }}
	capacity := repair{dems.InvalidCapacity, func(r *dems.Request) { r.Capacity = "1" }}
	bookings := repair{dems.MalformedRequest, func(r *dems.Request) { r.Bookings = "cancel" }}
	key := repair{dems.InvalidIdempotencyKey, func(r *dems.Request) { r.Key = "key" }}
	for op, repairs := range map[dems.Op][]repair{
		dems.AddEvent:              {by, event, eventType, capacity, key},
		dems.RemoveEvent:           {by, event, eventType, bookings, key},
		dems.ListEventAvailability: {by, eventType, key},
		dems.GetEvent:              {by, event, eventType, key},
		dems.BookEvent:             {by, customer, event, eventType, key},
		dems.GetBookingSchedule:    {by, customer, key},
		dems.CancelEvent:           {by, customer, event, eventType, key},
		dems.SwapEvent:             {by, customer, newEvent, oldEvent, newType, oldType, key},
	} {
		request := dems.Request{
			Op: op.String(), By: "x", CustomerID: "x", EventID: "x", EventType: "x", NewEventID: "x", NewEventType: "x",
			OldEventID: "x", OldEventType: "x", Capacity: "x", Bookings: "x", Key: " ", KeyGiven: true,
		}
		for i, repair := range repairs {
			if got := refusal(t, request); got != repair.code {
				t.Errorf("%s after %d repairs: %s, want %s", op, i, got, repair.code)
			}
			repair.mend(&request)
		}
		if got := refusal(t, request); got != dems.OK {
			t.Errorf("%s mended: %s", op, got)
		}
	}
}

// refusal parses a request and returns the code of the error, which has to be an *Error.
func refusal(t *testing.T, request dems.Request) dems.Code {
	t.Helper()
	_, err := cities.Parse(request)
	if err == nil {
		return dems.OK
	}
	if coded, ok := errors.AsType[*dems.Error](err); !ok || coded.Code == dems.OK {
		t.Errorf("%+v: the error is %v", request, err)
	}
	return dems.CodeOf(err)
}

func TestParseRefuses(t *testing.T) {
	valid := dems.Request{Op: "addEvent", By: "TORM0001", EventID: "TORM100519", EventType: "seminar", Capacity: "1"}
	for name, test := range map[string]struct {
		spoil func(r *dems.Request)
		want  dems.Code
	}{
		"no operation":            {func(r *dems.Request) { r.Op = "" }, dems.MalformedRequest},
		"unknown operation":       {func(r *dems.Request) { r.Op = "bookevent" }, dems.MalformedRequest},
		"user of another city":    {func(r *dems.Request) { r.By = "NYCM0001" }, dems.InvalidUserID},
		"event of another city":   {func(r *dems.Request) { r.EventID = "NYCM100519" }, dems.InvalidEventID},
		"no such date":            {func(r *dems.Request) { r.EventID = "TORM290219" }, dems.InvalidEventID},
		"no type":                 {func(r *dems.Request) { r.EventType = "" }, dems.InvalidEventType},
		"a manager as a customer": {func(r *dems.Request) { r.Op, r.CustomerID = "bookEvent", "TORM0001" }, dems.InvalidUserID},
		"another city's customer": {func(r *dems.Request) { r.Op, r.CustomerID = "bookEvent", "NYCC0001" }, dems.InvalidUserID},
		"an empty key":            {func(r *dems.Request) { r.KeyGiven = true }, dems.InvalidIdempotencyKey},
		"a bad key unannounced":   {func(r *dems.Request) { r.Key = "a b" }, dems.InvalidIdempotencyKey},
		"swap without an old ID": {func(r *dems.Request) {
			r.Op, r.CustomerID, r.NewEventID, r.NewEventType = "swapEvent", "TORC0001", "TORM100519", "seminar"
		}, dems.InvalidEventID},
	} {
		request := valid
		test.spoil(&request)
		if got := refusal(t, request); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestParseCapacity(t *testing.T) {
	for text, want := range map[string]uint32{
		"1": 1, "1000000": 1000000, " 7 ": 7,
		"": 0, "0": 0, "-1": 0, "+1": 0, "1000001": 0, "1.5": 0, "1.0": 0, "1e3": 0, "0x10": 0, "1_000": 0, "4294967297": 0,
		"18446744073709551617": 0, "NaN": 0, "one": 0, "١": 0, "1 2": 0,
	} {
		command, err := cities.Parse(dems.Request{Op: "addEvent", By: "TORM0001", EventID: "TORM100519", EventType: "seminar", Capacity: text})
		if command.Capacity != want || (want == 0) != (dems.CodeOf(err) == dems.InvalidCapacity) {
			t.Errorf("capacity %q: %d, %v", text, command.Capacity, err)
		}
	}
}

func TestValidKey(t *testing.T) {
	for key, want := range map[string]bool{
		"k": true, "!~": true, "01J-abc_DEF.9": true, strings.Repeat("k", dems.MaxKeyBytes): true,
		"": false, " ": false, "a b": false, "a\n": false, "\x7f": false, "é": false, "\x00": false,
		strings.Repeat("k", dems.MaxKeyBytes+1): false,
	} {
		if got := dems.ValidKey(key); got != want {
			t.Errorf("ValidKey(%q) = %t", key, got)
		}
	}
}

// TestParsedIsChecked shows that Check accepts whatever Parse accepts: what a front end lets in, no replica refuses.
func TestParsedIsChecked(t *testing.T) {
	users := rapid.SampledFrom([]string{"TORM0001", "torc0001", "MTLC9999", "NYCC0001", "TORX0001", "", " otwm0007 "})
	events := rapid.SampledFrom([]string{"TORM100519", "mtla290220", "OTWE290219", "NYCM100519", ""})
	types := rapid.SampledFrom([]string{"seminar", "Trade Shows", "CONFERENCE", "party", ""})
	rapid.Check(t, func(t *rapid.T) {
		request := dems.Request{
			Op: rapid.SampledFrom(operations).Draw(t, "op").String(), By: users.Draw(t, "by"), CustomerID: users.Draw(t, "customer"),
			EventID: events.Draw(t, "event"), EventType: types.Draw(t, "type"),
			NewEventID: events.Draw(t, "new event"), NewEventType: types.Draw(t, "new type"),
			OldEventID: events.Draw(t, "old event"), OldEventType: types.Draw(t, "old type"),
			Capacity: rapid.SampledFrom([]string{"1", "0", "1000000", "1000001", ""}).Draw(t, "capacity"),
			Bookings: rapid.SampledFrom([]string{"", "rebook", "cancel", "refuse", "keep"}).Draw(t, "bookings"),
			Key:      rapid.SampledFrom([]string{"", "key", "a b", strings.Repeat("k", 129)}).Draw(t, "key"),
			KeyGiven: rapid.Bool().Draw(t, "key given"),
		}
		command, err := cities.Parse(request)
		if err != nil {
			return
		}
		if code := cities.Check(&command); code != dems.OK {
			t.Fatalf("%+v parses to %s, which is %s", request, describe(command), code)
		}
		decoder := dems.NewDecoder(dems.AppendCommand(nil, &command))
		decoded := dems.DecodeCommand(decoder)
		decoded.Time = command.Time
		if err := decoder.Finish(); err != nil || decoded != command {
			t.Fatalf("%s comes back from its binary form as %s, %v", describe(command), describe(decoded), err)
		}
	})
}

func TestCheckAcceptsValidCommands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		command := drawCommand(t)
		if code := cities.Check(&command); code != dems.OK {
			t.Fatalf("%s is %s", describe(command), code)
		}
	})
}

// TestCheckRefuses spoils one part of a valid command at a time, as a hostile front end could.
func TestCheckRefuses(t *testing.T) {
	swap := dems.Request{
		Op: "swapEvent", By: "TORM0001", CustomerID: "TORC0001", NewEventID: "TORM100519", NewEventType: "seminar",
		OldEventID: "TORA100519", OldEventType: "seminar",
	}
	add := dems.Request{Op: "addEvent", By: "TORM0001", EventID: "TORM100519", EventType: "seminar", Capacity: "1"}
	for name, test := range map[string]struct {
		request dems.Request
		spoil   func(c *dems.Command)
		want    dems.Code
	}{
		"operation 0":           {swap, func(c *dems.Command) { c.Op = 0 }, dems.MalformedRequest},
		"operation 200":         {swap, func(c *dems.Command) { c.Op = 200 }, dems.MalformedRequest},
		"nobody asks":           {swap, func(c *dems.Command) { c.By = dems.UserID{} }, dems.InvalidUserID},
		"a role of X":           {swap, func(c *dems.Command) { c.By.Role = 'X' }, dems.InvalidUserID},
		"user number 10000":     {swap, func(c *dems.Command) { c.By.Number = 10000 }, dems.InvalidUserID},
		"user of another city":  {swap, func(c *dems.Command) { c.By.City = dems.City{'N', 'Y', 'C'} }, dems.InvalidUserID},
		"no customer":           {swap, func(c *dems.Command) { c.Customer = dems.UserID{} }, dems.InvalidUserID},
		"manager as customer":   {swap, func(c *dems.Command) { c.Customer.Role = dems.Manager }, dems.InvalidUserID},
		"customer of elsewhere": {swap, func(c *dems.Command) { c.Customer.City = dems.City{'N', 'Y', 'C'} }, dems.InvalidUserID},
		"no event":              {swap, func(c *dems.Command) { c.Event.ID = dems.EventID{} }, dems.InvalidEventID},
		"slot 0":                {swap, func(c *dems.Command) { c.Event.ID.Slot = 0 }, dems.InvalidEventID},
		"slot 4":                {swap, func(c *dems.Command) { c.Event.ID.Slot = 4 }, dems.InvalidEventID},
		"day 31 of April":       {swap, func(c *dems.Command) { c.Event.ID.Date = dems.Date{Year: 19, Month: 4, Day: 31} }, dems.InvalidEventID},
		"old event of nowhere":  {swap, func(c *dems.Command) { c.OldEvent.ID.City = dems.City{} }, dems.InvalidEventID},
		"no type":               {swap, func(c *dems.Command) { c.Event.Type = 0 }, dems.InvalidEventType},
		"type 4":                {swap, func(c *dems.Command) { c.Event.Type = 4 }, dems.InvalidEventType},
		"no old type":           {swap, func(c *dems.Command) { c.OldEvent.Type = 0 }, dems.InvalidEventType},
		"capacity 0":            {add, func(c *dems.Command) { c.Capacity = 0 }, dems.InvalidCapacity},
		"capacity 1000001":      {add, func(c *dems.Command) { c.Capacity = 1000001 }, dems.InvalidCapacity},
		"policy 3":              {add, func(c *dems.Command) { c.Bookings = 3 }, dems.MalformedRequest},
		"key with a space":      {add, func(c *dems.Command) { c.Key = "a b" }, dems.InvalidIdempotencyKey},
		"key of 129 bytes":      {add, func(c *dems.Command) { c.Key = strings.Repeat("k", 129) }, dems.InvalidIdempotencyKey},
		"user before event": {swap, func(c *dems.Command) {
			c.By, c.Event, c.Customer = dems.UserID{}, dems.EventKey{}, dems.UserID{}
		}, dems.InvalidUserID},
		"event before type": {swap, func(c *dems.Command) { c.Event, c.Key = dems.EventKey{}, " " }, dems.InvalidEventID},
	} {
		command, err := cities.Parse(test.request)
		if err != nil {
			t.Fatal(err)
		}
		test.spoil(&command)
		if got := cities.Check(&command); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
