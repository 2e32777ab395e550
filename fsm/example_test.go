package fsm_test

import (
	"fmt"
	"time"

	"dems"
	"dems/fsm"
)

// A front end opens its session, then proposes batches; every node applies the same entries and gets the same.
func Example() {
	cities := dems.DefaultCities()
	machine := fsm.New(cities)
	opened := dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{ID: "fe1", Session: 42}}
	if _, err := machine.Apply(1, dems.AppendEntry(nil, &opened)); err != nil {
		fmt.Println(err)
		return
	}
	batch := dems.Batch{Session: 42, Number: 1}
	for _, request := range []dems.Request{
		{Op: "addEvent", By: "TORM0001", EventID: "TORM100519", EventType: "seminar", Capacity: "1"},
		{Op: "bookEvent", By: "MTLC0001", CustomerID: "MTLC0001", EventID: "TORM100519", EventType: "seminar"},
		{Op: "bookEvent", By: "MTLC0002", CustomerID: "MTLC0002", EventID: "TORM100519", EventType: "seminar"},
	} {
		command, err := cities.Parse(request)
		if err != nil {
			fmt.Println(err)
			return
		}
		command.Time = time.Date(2026, 11, 22, 11, 35, 37, 0, time.UTC)
		batch.Commands = append(batch.Commands, command)
	}
	applied, err := machine.Apply(2, dems.AppendEntry(nil, &dems.Entry{Kind: dems.BatchEntry, Batch: batch}))
	if err != nil {
		fmt.Println(err)
		return
	}
	results, err := dems.DecodeResults(applied.Results)
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range results {
		fmt.Println(results[i].Text(&batch.Commands[i]))
	}
	fmt.Println(len(applied.Records), "records in city logs; the digest is right:", machine.Recompute() == applied.StateDigest)
	// Output:
	// seminar/TORM100519 created with capacity 1.
	// Booked seminar/TORM100519 for MTLC0001.
	// Every seat is taken; choose another event or ask again after a cancellation.
	// 5 records in city logs; the digest is right: true
}
