package main

import (
	"github.com/spf13/cobra"

	"dems"
)

// customerFlag adds --customer to a command and returns its value.
func customerFlag(command *cobra.Command) *string {
	return command.Flags().String("customer", "", "the customer it is for (default: the user, where that is a customer)")
}

func (p *program) bookCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "book EVENT-ID EVENT-TYPE",
		Short: "Book an event",
		Example: `  demsctl --user MTLC0001 book TORM100519 seminar
  demsctl --user TORM2345 book TORM100519 seminar --customer MTLC0001`,
		Args: cobra.ExactArgs(2),

		ValidArgsFunction: completeEvent,
	}
	customerText, key := customerFlag(command), keyFlag(command)
	command.RunE = func(command *cobra.Command, arguments []string) error {
		api, err := p.connectUser()
		if err != nil {
			return err
		}
		customer, err := parseCustomer(*customerText, api.User())
		if err != nil {
			return err
		}
		event, err := parseEvent(arguments[0], arguments[1])
		if err != nil {
			return err
		}
		booked, err := api.BookEvent(command.Context(), customer, event, keyOption(*key)...)
		if err != nil {
			return err
		}
		return p.emit(booked.Body, func(page *page) {
			page.line("Booked: %s %s for %s", booked.Booking.Type, booked.Booking.ID, booked.Booking.Customer)
		})
	}
	return command
}

func (p *program) scheduleCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "schedule",
		Short: "List a customer's bookings in all cities",
		Example: `  demsctl --user MTLC0001 schedule
  demsctl --user TORM2345 schedule --customer MTLC0001`,
		Args: cobra.NoArgs,
	}
	customerText := customerFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		api, err := p.connectUser()
		if err != nil {
			return err
		}
		customer, err := parseCustomer(*customerText, api.User())
		if err != nil {
			return err
		}
		schedule, err := api.GetBookingSchedule(command.Context(), customer)
		if err != nil {
			return err
		}
		return p.emit(schedule.Body, func(page *page) {
			if len(schedule.Bookings) == 0 {
				page.line("%s has no bookings.", customer)
				return
			}
			rows := make([][]cell, len(schedule.Bookings))
			for i, booking := range schedule.Bookings {
				rows[i] = cells(booking.ID, booking.Type, booking.City)
			}
			page.table([]string{"EVENT ID", "TYPE", "CITY"}, rows)
		})
	}
	return command
}

func (p *program) cancelCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "cancel EVENT-ID",
		Short: "Cancel a booking",
		Example: `  demsctl --user MTLC0001 cancel TORM100519
  demsctl --user MTLC0001 cancel TORM100519 --type seminar`,
		Args: cobra.ExactArgs(1),

		ValidArgsFunction: cobra.NoFileCompletions,
	}
	customerText, key := customerFlag(command), keyFlag(command)
	typeText := command.Flags().String("type", "", "event type; needed where events of several types with that ID are booked")
	command.RunE = func(command *cobra.Command, arguments []string) error {
		api, err := p.connectUser()
		if err != nil {
			return err
		}
		customer, err := parseCustomer(*customerText, api.User())
		if err != nil {
			return err
		}
		var (
			event dems.EventKey
			ok    bool
		)
		if event.ID, ok = dems.ParseEventID(arguments[0]); !ok {
			return refuse(dems.InvalidEventID, "")
		}
		if command.Flags().Changed("type") {
			if event.Type, ok = dems.ParseEventType(*typeText); !ok {
				return refuse(dems.InvalidEventType, "")
			}
		}
		cancelled, err := api.CancelEvent(command.Context(), customer, event, keyOption(*key)...)
		if err != nil {
			return err
		}
		return p.emit(cancelled.Body, func(page *page) {
			page.line("Cancelled: %s %s for %s", cancelled.Booking.Type, cancelled.Booking.ID, cancelled.Booking.Customer)
		})
	}
	return command
}

func (p *program) swapCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "swap --from EVENT-TYPE/EVENT-ID --to EVENT-TYPE/EVENT-ID",
		Short:   "Give up a booking for another one, in one step or not at all",
		Example: `  demsctl --user MTLC0001 swap --from seminar/TORM100519 --to conference/MTLA110519`,
		Args:    cobra.NoArgs,
	}
	customerText, key := customerFlag(command), keyFlag(command)
	from := command.Flags().String("from", "", "the booked event, as in seminar/TORM100519")
	to := command.Flags().String("to", "", "the event to book instead, as in conference/MTLA110519")
	command.RunE = func(command *cobra.Command, _ []string) error {
		api, err := p.connectUser()
		if err != nil {
			return err
		}
		customer, err := parseCustomer(*customerText, api.User())
		if err != nil {
			return err
		}
		newEvent, err := parseReference("to", *to)
		if err != nil {
			return err
		}
		oldEvent, err := parseReference("from", *from)
		if err != nil {
			return err
		}
		swapped, err := api.SwapEvent(command.Context(), customer, newEvent, oldEvent, keyOption(*key)...)
		if err != nil {
			return err
		}
		return p.emit(swapped.Body, func(page *page) {
			page.line("Swapped: %s %s for %s %s, for %s",
				swapped.Old.Type, swapped.Old.ID, swapped.New.Type, swapped.New.ID, customer)
		})
	}
	return command
}
