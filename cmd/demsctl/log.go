package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dems"
	"dems/client"
)

func (p *program) logCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "log CITY",
		Short: "Print a city's log: its ordered operations",
		Long: `Print the ordered operations in a city's log, as a majority of the nodes has them. With -o json the records are printed as
they stand in the log, a line each. --timeout is for one page of the log.`,
		Example: `  demsctl log TOR
  demsctl log TOR --from 1000 -o json
  demsctl log TOR --follow`,
		Args: cobra.ExactArgs(1),

		ValidArgsFunction: cobra.NoFileCompletions,
	}
	from := command.Flags().Uint64("from", 0, "number of the first record, counted from 0")
	follow := command.Flags().Bool("follow", false, "go on with new records until interrupted")
	interval := command.Flags().Duration("interval", time.Second, "with --follow: how often new records are asked for")
	command.RunE = func(command *cobra.Command, arguments []string) error {
		city, ok := dems.ParseCity(arguments[0])
		if !ok {
			return refuse(dems.MalformedRequest, "A city is three letters, as in TOR.")
		}
		if *interval <= 0 {
			return fmt.Errorf("--interval %v: write a time above zero, as in 1s", *interval)
		}
		api, err := p.connect()
		if err != nil {
			return err
		}
		if !*follow {
			_, err = p.printLog(command.Context(), api, city, *from)
			return err
		}
		return p.followLog(command.Context(), api, city, *from, *interval)
	}
	return command
}

// printLog prints the records from number from to the end of the log as it was at first, and returns the number of the
// next one.
func (p *program) printLog(ctx context.Context, api *client.Client, city dems.City, from uint64) (uint64, error) {
	for total := from + 1; from < total; {
		records, err := api.CityLog(ctx, city, from)
		if err != nil {
			return from, err
		}
		total = records.Total
		if len(records.Records) == 0 {
			break
		}
		var text bytes.Buffer
		for _, record := range records.Records {
			text.Write(p.formatRecord(record))
			text.WriteByte('\n')
		}
		if err := p.print(text.Bytes()); err != nil {
			return from, err
		}
		from += uint64(len(records.Records))
	}
	return from, nil
}

// followLog prints records until it is interrupted, which is no error.
func (p *program) followLog(ctx context.Context, api *client.Client, city dems.City, from uint64, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		var err error
		from, err = p.printLog(ctx, api, city, from)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// logRecord is what people are shown of a city log record.
type logRecord struct {
	Time         string `json:"time"`
	Sequence     uint64 `json:"seq"`
	Op           string `json:"op"`
	By           string `json:"by"`
	CustomerID   string `json:"customerID"`
	EventID      string `json:"eventID"`
	EventType    string `json:"eventType"`
	NewEventID   string `json:"newEventID"`
	NewEventType string `json:"newEventType"`
	OldEventID   string `json:"oldEventID"`
	OldEventType string `json:"oldEventType"`
	Capacity     uint64 `json:"capacity"`
	Bookings     string `json:"bookings"`
	Status       string `json:"status"`
	Response     struct {
		Code string `json:"code"`
		Text string `json:"text"`
	} `json:"response"`
}

// formatRecord returns a record as it is printed: for people one line, and as it stands where it cannot be read.
func (p *program) formatRecord(record []byte) []byte {
	var r logRecord
	if p.output == "json" {
		return record
	}
	if err := json.Unmarshal(record, &r); err != nil || r.Op == "" {
		return []byte(printable(string(record)))
	}
	parts := []string{fmt.Sprintf("%s %7d  %s", r.Time, r.Sequence, r.By)}
	if r.CustomerID != "" && r.CustomerID != r.By {
		parts = append(parts, "for "+r.CustomerID)
	}
	parts = append(parts, r.Op)
	switch {
	case r.NewEventID != "" || r.OldEventID != "":
		parts = append(parts, reference(r.OldEventType, r.OldEventID), "to", reference(r.NewEventType, r.NewEventID))
	case r.EventID != "" || r.EventType != "":
		parts = append(parts, reference(r.EventType, r.EventID))
	}
	if r.Capacity > 0 {
		parts = append(parts, fmt.Sprintf("capacity %d", r.Capacity))
	}
	if r.Bookings != "" {
		parts = append(parts, "bookings "+r.Bookings)
	}
	result := r.Status
	if r.Response.Code != "" {
		result += " " + r.Response.Code
	}
	return []byte(printable(strings.Join(parts, " ") + ": " + result + ": " + r.Response.Text))
}

// reference returns type/ID, or the one of them that is there.
func reference(eventType, id string) string { return strings.Trim(eventType+"/"+id, "/") }
