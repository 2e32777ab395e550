package node_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"dems"
	"dems/internal/cluster"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The tests of clusters wait for elections most of the time; what the command line says counts more.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		cluster.Cleanup()
		os.Exit(code)
	}))
}

const session = 7 // of the front end that tests propose as

func user(role dems.Role, number int) dems.UserID {
	return dems.UserID{City: dems.City{'M', 'T', 'L'}, Role: role, Number: uint16(number)}
}

func event(text string) dems.EventKey {
	id, ok := dems.ParseEventID(text)
	if !ok {
		panic(text)
	}
	return dems.EventKey{Type: dems.Seminar, ID: id}
}

// addEvent returns the command that makes the events that tests book.
func addEvent(city string, capacity uint32) dems.Command {
	manager := user(dems.Manager, 1)
	manager.City, _ = dems.ParseCity(city)
	return dems.Command{Op: dems.AddEvent, Time: time.UnixMilli(1), By: manager, Event: event(city + "A100519"), Capacity: capacity}
}

// book returns a booking of a customer.
func book(city string, customer int) dems.Command {
	who := user(dems.Customer, customer)
	return dems.Command{Op: dems.BookEvent, Time: time.UnixMilli(2), By: who, Customer: who, Event: event(city + "A100519")}
}

// batch returns the entry of one of the session's batches.
func batch(number int, commands ...dems.Command) []byte {
	return dems.AppendEntry(nil, &dems.Entry{
		Kind: dems.BatchEntry, Batch: dems.Batch{Session: session, Number: uint64(number), Commands: commands},
	})
}

// schedule returns the query for a customer's bookings.
func schedule(customer int) dems.Query {
	who := user(dems.Customer, customer)
	return dems.Query{Kind: dems.OperationQuery, Command: dems.Command{
		Op: dems.GetBookingSchedule, Time: time.UnixMilli(3), By: who, Customer: who,
	}}
}

// bookings returns n bookings of as many customers, different in every batch.
func bookings(number, n int) []dems.Command {
	commands := make([]dems.Command, n)
	for i := range commands {
		commands[i] = book("MTL", (number*n+i)%10000)
	}
	return commands
}

// outcome returns the first result of a reply.
func outcome(t testing.TB, reply dems.BatchReply) dems.Result {
	t.Helper()
	results, err := dems.DecodeResults(reply.Results)
	if err != nil || len(results) == 0 {
		t.Fatalf("results %v, %v", results, err)
	}
	return results[0]
}
