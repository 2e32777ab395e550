package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"dems"
	"dems/client"
)

// typeTitles are the event types as people head a list of them.
var typeTitles = map[dems.EventType]string{
	dems.Conference: "Conferences",
	dems.Seminar:    "Seminars",
	dems.TradeShow:  "Trade shows",
}

func (p *program) eventCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "event",
		Short: "Add, remove, show and list events (managers)",
		Example: `  demsctl event add TORM100519 seminar --capacity 3
  demsctl event list seminar`,
		Args: cobra.NoArgs,
		RunE: needsCommand,
	}
	command.AddCommand(p.eventAddCommand(), p.eventRemoveCommand(), p.eventShowCommand(), p.eventListCommand())
	return command
}

// needsCommand is what a command does that is only a heading.
func needsCommand(command *cobra.Command, _ []string) error {
	var names []string
	for _, sub := range command.Commands() {
		names = append(names, sub.Name())
	}
	return fmt.Errorf("%s needs one of the commands %s", command.CommandPath(), strings.Join(names, ", "))
}

func (p *program) eventAddCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "add EVENT-ID EVENT-TYPE --capacity SEATS",
		Short:   "Add an event, or change the capacity of one that exists",
		Example: `  demsctl --user TORM2345 event add TORM100519 seminar --capacity 3`,
		Args:    cobra.ExactArgs(2),

		ValidArgsFunction: completeEvent,
	}
	capacity := command.Flags().String("capacity", "", "seats, from 1 to 1000000")
	key := keyFlag(command)
	command.RunE = func(command *cobra.Command, arguments []string) error {
		api, err := p.connectUser()
		if err != nil {
			return err
		}
		event, err := parseEvent(arguments[0], arguments[1])
		if err != nil {
			return err
		}
		if *capacity == "" {
			return fmt.Errorf("how many seats has it? Say so with --capacity, as in --capacity 3")
		}
		seats, err := parseCapacity(*capacity)
		if err != nil {
			return err
		}
		added, err := api.AddEvent(command.Context(), event, seats, keyOption(*key)...)
		if err != nil {
			return err
		}
		return p.emit(added.Body, func(page *page) {
			page.line("%s: %s", capitalised(added.Outcome), describe(added.Event))
		})
	}
	return command
}

func (p *program) eventRemoveCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "remove EVENT-ID EVENT-TYPE",
		Short: "Remove an event and rebook or cancel its bookings",
		Example: `  demsctl --user TORM2345 event remove TORM100519 seminar
  demsctl --user TORM2345 event remove TORM100519 seminar --bookings cancel`,
		Args: cobra.ExactArgs(2),

		ValidArgsFunction: completeEvent,
	}
	bookings := command.Flags().String("bookings", "rebook", "what becomes of its bookings: rebook (to the next later event of the type in the city), cancel, or refuse (it is not removed)")
	key := keyFlag(command)
	command.RunE = func(command *cobra.Command, arguments []string) error {
		api, err := p.connectUser()
		if err != nil {
			return err
		}
		event, err := parseEvent(arguments[0], arguments[1])
		if err != nil {
			return err
		}
		policy, ok := dems.ParseBookingPolicy(*bookings)
		if !ok || *bookings == "" {
			return fmt.Errorf("--bookings %q: write rebook, cancel or refuse", *bookings)
		}
		removed, err := api.RemoveEvent(command.Context(), event, policy, keyOption(*key)...)
		if err != nil {
			return err
		}
		return p.emit(removed.Body, func(page *page) { writeRemoved(page, removed) })
	}
	return command
}

func (p *program) eventShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show EVENT-ID EVENT-TYPE",
		Short:   "Show one event",
		Example: `  demsctl --user TORM2345 event show TORM100519 seminar`,
		Args:    cobra.ExactArgs(2),

		ValidArgsFunction: completeEvent,
		RunE: func(command *cobra.Command, arguments []string) error {
			api, err := p.connectUser()
			if err != nil {
				return err
			}
			event, err := parseEvent(arguments[0], arguments[1])
			if err != nil {
				return err
			}
			single, err := api.GetEvent(command.Context(), event)
			if err != nil {
				return err
			}
			return p.emit(single.Body, func(page *page) { writeEvents(page, []client.Event{single.Event}) })
		},
	}
}

func (p *program) eventListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list EVENT-TYPE",
		Short:   "List the events of a type in all cities with their seats",
		Example: `  demsctl --user TORM2345 event list seminar`,
		Args:    cobra.ExactArgs(1),

		ValidArgsFunction: completeType,
		RunE: func(command *cobra.Command, arguments []string) error {
			api, err := p.connectUser()
			if err != nil {
				return err
			}
			eventType, ok := dems.ParseEventType(arguments[0])
			if !ok {
				return refuse(dems.InvalidEventType, "")
			}
			listed, err := api.ListEventAvailability(command.Context(), eventType)
			if err != nil {
				return err
			}
			return p.emit(listed.Body, func(page *page) {
				if len(listed.Events) > 0 {
					writeEvents(page, listed.Events)
					page.line("")
				}
				page.line("%s", oneLine(eventType, listed.Events))
			})
		},
	}
}

// oneLine lists events as in Seminars - MTLE130519 3, OTWA060519 6, TORM180519 0: each with the seats that are free.
func oneLine(eventType dems.EventType, events []client.Event) string {
	parts := make([]string, len(events))
	for i, event := range events {
		parts[i] = fmt.Sprintf("%s %d", event.ID, event.Available)
	}
	if len(parts) == 0 {
		parts = []string{"none"}
	}
	return typeTitles[eventType] + " - " + strings.Join(parts, ", ")
}

func writeEvents(page *page, events []client.Event) {
	rows := make([][]cell, len(events))
	for i, event := range events {
		rows[i] = cells(event.ID, event.Type, event.City, event.Capacity, event.Booked, event.Available)
		if event.Available == 0 {
			rows[i][5].colour = yellow
		}
	}
	page.table([]string{"EVENT ID", "TYPE", "CITY", "CAPACITY", "BOOKED", "AVAILABLE"}, rows)
}

func writeRemoved(page *page, removed *client.Removed) {
	page.line("Removed: %s", describe(removed.Event))
	if len(removed.Affected) == 0 {
		return
	}
	rows := make([][]cell, len(removed.Affected))
	for i, affected := range removed.Affected {
		rows[i] = cells(affected.Customer, affected.Outcome, affected.ID)
	}
	page.table([]string{"CUSTOMER", "OUTCOME", "REBOOKED TO"}, rows)
}

// describe says in one line what an event is.
func describe(event client.Event) string {
	return fmt.Sprintf("%s %s, capacity %d, booked %d, available %d", event.Type, event.ID, event.Capacity, event.Booked, event.Available)
}

func capitalised(word string) string {
	if word == "" {
		return ""
	}
	return strings.ToUpper(word[:1]) + word[1:]
}
