package client_test

import (
	"context"
	"fmt"

	"dems"
	"dems/client"
	"dems/internal/onenode"
)

// Example books a seminar for a customer, whatever happens to the first front end's answer.
func Example() {
	cluster, err := onenode.NewCluster()
	if err != nil {
		panic(err)
	}
	frontEnd, err := onenode.Start(cluster, "fe1")
	if err != nil {
		panic(err)
	}
	defer frontEnd.Close()

	config := client.DefaultConfig()
	config.Endpoints = []string{frontEnd.URL}
	api, err := client.New(config)
	if err != nil {
		panic(err)
	}
	defer api.Close()
	manager, _ := dems.ParseUserID("TORM2345")
	customer, _ := dems.ParseUserID("MTLC0001")
	id, _ := dems.ParseEventID("TORM100519")
	event := dems.EventKey{Type: dems.Seminar, ID: id}

	if _, err := api.As(manager).AddEvent(context.Background(), event, 1); err != nil {
		panic(err)
	}
	frontEnd.Fault(onenode.CutAfter)
	booked, err := api.As(customer).BookEvent(context.Background(), customer, event)
	fmt.Println(booked.Outcome, booked.Booking.ID, err)
	_, err = api.As(customer).BookEvent(context.Background(), customer, event)
	fmt.Println(dems.CodeOf(err))
	// Output:
	// booked TORM100519 <nil>
	// already_booked
}
