package dems_test

import (
	"time"

	"pgregory.net/rapid"

	"dems"
)

// Generators of valid values, shared by the property tests. They draw from a few cities and many dates, so that equal
// and neighbouring values come up often.

var cities = dems.DefaultCities()

func drawCity(t *rapid.T) dems.City {
	return rapid.SampledFrom(cities).Draw(t, "city").City
}

func drawDate(t *rapid.T) dems.Date {
	day := rapid.IntRange(0, 36524).Draw(t, "day") // days since 2000-01-01; 2099-12-31 is the last
	date := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, day)
	return dems.Date{Year: uint8(date.Year() - 2000), Month: uint8(date.Month()), Day: uint8(date.Day())}
}

func drawUser(t *rapid.T, roles ...dems.Role) dems.UserID {
	return dems.UserID{
		City:   drawCity(t),
		Role:   rapid.SampledFrom(roles).Draw(t, "role"),
		Number: rapid.Uint16Range(0, 9999).Draw(t, "number"),
	}
}

func drawEventID(t *rapid.T) dems.EventID {
	slot := rapid.SampledFrom([]dems.Slot{dems.Morning, dems.Afternoon, dems.Evening}).Draw(t, "slot")
	return dems.EventID{City: drawCity(t), Slot: slot, Date: drawDate(t)}
}

func drawEvent(t *rapid.T) dems.EventKey {
	return dems.EventKey{Type: rapid.SampledFrom(dems.EventTypes[:]).Draw(t, "type"), ID: drawEventID(t)}
}

func drawTime(t *rapid.T) time.Time {
	return time.UnixMilli(rapid.Int64Range(0, 1<<47-1).Draw(t, "time")).UTC()
}

func drawKey(t *rapid.T) string {
	return rapid.StringOfN(rapid.RuneFrom(nil, visible), 0, dems.MaxKeyBytes, dems.MaxKeyBytes).Draw(t, "key")
}

// drawCommand draws a command that Cities.Check accepts.
func drawCommand(t *rapid.T) dems.Command {
	op := rapid.SampledFrom(operations).Draw(t, "op")
	c := dems.Command{Op: op, Time: drawTime(t), By: drawUser(t, dems.Manager, dems.Customer), Key: drawKey(t)}
	if op.ForCustomer() {
		c.Customer = drawUser(t, dems.Customer)
	}
	switch op {
	case dems.GetBookingSchedule:
	case dems.ListEventAvailability:
		c.Event.Type = drawEvent(t).Type
	case dems.CancelEvent:
		c.Event = drawEvent(t)
		if rapid.Bool().Draw(t, "without type") {
			c.Event.Type = 0
		}
	default:
		c.Event = drawEvent(t)
	}
	switch op {
	case dems.AddEvent:
		c.Capacity = rapid.Uint32Range(1, dems.MaxCapacity).Draw(t, "capacity")
	case dems.RemoveEvent:
		c.Bookings = rapid.SampledFrom([]dems.BookingPolicy{dems.Rebook, dems.CancelBookings, dems.Refuse}).Draw(t, "bookings")
	case dems.SwapEvent:
		c.OldEvent = drawEvent(t)
	}
	return c
}

func drawEventView(t *rapid.T) dems.EventView {
	capacity := rapid.Uint32Range(1, dems.MaxCapacity).Draw(t, "capacity")
	return dems.EventView{Key: drawEvent(t), Capacity: capacity, Booked: rapid.Uint32Range(0, capacity).Draw(t, "booked")}
}

func drawAffected(t *rapid.T) dems.Affected {
	if rapid.Bool().Draw(t, "rebooked") {
		return dems.Affected{Customer: drawUser(t, dems.Customer), Outcome: dems.Rebooked, Event: drawEvent(t)}
	}
	return dems.Affected{Customer: drawUser(t, dems.Customer), Outcome: dems.Cancelled}
}

// maybe returns what draw draws, or the zero value.
func maybe[T any](t *rapid.T, what string, draw func(*rapid.T) T) T {
	var zero T
	if rapid.Bool().Draw(t, what) {
		return draw(t)
	}
	return zero
}

// list returns up to five values, nil for none, as the decoders do.
func list[T any](t *rapid.T, what string, draw func(*rapid.T) T) []T {
	var values []T
	for range rapid.IntRange(0, 5).Draw(t, what) {
		values = append(values, draw(t))
	}
	return values
}

func drawResult(t *rapid.T) dems.Result {
	return dems.Result{
		Code:     rapid.SampledFrom(append(dems.Codes(), dems.OK)).Draw(t, "code"),
		Outcome:  dems.Outcome(rapid.ByteRange(0, byte(dems.Rebooked)).Draw(t, "outcome")),
		Replayed: rapid.Bool().Draw(t, "replayed"),
		Sequence: rapid.Uint64().Draw(t, "sequence"),
		Event:    maybe(t, "event", drawEventView),
		Booking:  maybe(t, "booking", drawEvent),
		Old:      maybe(t, "old", drawEvent),
		Customer: maybe(t, "customer", func(t *rapid.T) dems.UserID { return drawUser(t, dems.Customer) }),
		Type:     maybe(t, "type", func(t *rapid.T) dems.EventType { return drawEvent(t).Type }),
		Affected: list(t, "affected", drawAffected),
		Events:   list(t, "events", drawEventView),
		Bookings: list(t, "bookings", drawEvent),
	}
}

func drawRegistration(t *rapid.T) dems.Registration {
	return dems.Registration{
		ID:          string(drawNode(t)),
		Address:     rapid.StringMatching(`[a-z0-9.:/]{0,255}`).Draw(t, "address"),
		Version:     rapid.StringN(0, 40, dems.MaxNameBytes).Draw(t, "version"),
		Time:        drawTime(t),
		Incarnation: rapid.Uint64().Draw(t, "incarnation"),
		Session:     rapid.Uint64Min(1).Draw(t, "session"),
		Cities:      maybe(t, "cities", func(*rapid.T) string { return cities.String() }),
	}
}

func drawNode(t *rapid.T) dems.NodeID {
	return dems.NodeID(rapid.StringMatching(`[a-z][a-z0-9-]{0,31}`).Draw(t, "id"))
}

func drawText(t *rapid.T) string { return rapid.StringN(0, 80, dems.MaxEvidenceBytes).Draw(t, "text") }

func drawVerdict(t *rapid.T) dems.Verdict {
	return dems.Verdict{
		Node: drawNode(t), Incarnation: rapid.Uint64Min(1).Draw(t, "incarnation"),
		By: drawNode(t), ByIncarnation: rapid.Uint64Min(1).Draw(t, "incarnation of the judge"),
		Index: rapid.Uint64().Draw(t, "index"), Expected: drawText(t), Answered: drawText(t), Time: drawTime(t),
	}
}

// drawIncident draws an incident without a sequence, as entries have it.
func drawIncident(t *rapid.T) dems.Incident {
	return dems.Incident{
		Time: drawTime(t), Kind: rapid.SampledFrom(dems.IncidentKinds()).Draw(t, "kind of incident"), Node: maybe(t, "node", drawNode),
		Incarnation: rapid.Uint64().Draw(t, "incarnation"), By: rapid.StringN(0, 40, dems.MaxNameBytes).Draw(t, "by"),
		Index: rapid.Uint64().Draw(t, "index"), Expected: drawText(t), Answered: drawText(t), Detail: drawText(t),
	}
}

func drawIncidents(t *rapid.T) []dems.Incident {
	incidents := append([]dems.Incident{}, list(t, "incidents", drawIncident)...)
	for i := range incidents {
		incidents[i].Sequence = rapid.Uint64().Draw(t, "sequence")
	}
	return incidents
}

func drawReplacement(t *rapid.T) dems.Replacement {
	return dems.Replacement{
		Node: drawNode(t), Incarnation: rapid.Uint64Min(1).Draw(t, "incarnation"), By: rapid.StringN(0, 40, dems.MaxNameBytes).Draw(t, "by"),
		Cause: drawText(t), Automatic: rapid.Bool().Draw(t, "automatic"), Time: drawTime(t),
	}
}

func drawRegistry(t *rapid.T) dems.Registry {
	return dems.Registry{
		Cities:    cities,
		Nodes:     append([]dems.Registration{}, list(t, "nodes", drawRegistration)...),
		FrontEnds: append([]dems.Registration{}, list(t, "front ends", drawRegistration)...),
	}
}

func drawEntry(t *rapid.T) dems.Entry {
	kind := rapid.SampledFrom([]dems.EntryKind{
		dems.BatchEntry, dems.RegisterNodeEntry, dems.RegisterFrontEndEntry, dems.VerdictEntry, dems.IncidentEntry, dems.ReplacementEntry,
		dems.RestoreEntry,
	}).Draw(t, "kind")
	switch kind {
	case dems.RegisterNodeEntry, dems.RegisterFrontEndEntry:
		return dems.Entry{Kind: kind, Registration: drawRegistration(t)}
	case dems.VerdictEntry:
		return dems.Entry{Kind: kind, Verdict: drawVerdict(t)}
	case dems.IncidentEntry:
		return dems.Entry{Kind: kind, Incident: drawIncident(t)}
	case dems.ReplacementEntry:
		return dems.Entry{Kind: kind, Replacement: drawReplacement(t)}
	case dems.RestoreEntry:
		return dems.Entry{Kind: kind, Origin: drawOrigin(t)}
	}
	return dems.Entry{Kind: kind, Batch: dems.Batch{
		Session:  rapid.Uint64Min(1).Draw(t, "session"),
		Number:   rapid.Uint64Min(1).Draw(t, "batch number"),
		Commands: append([]dems.Command{drawCommand(t)}, list(t, "commands", drawCommand)...),
	}}
}

func drawOrigin(t *rapid.T) dems.Origin {
	origin := dems.Origin{Index: rapid.Uint64Min(1).Draw(t, "index of the backup")}
	copy(origin.Digest[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "digest of the backup"))
	return origin
}
