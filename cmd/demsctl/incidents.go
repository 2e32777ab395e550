package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dems/client"
)

func (p *program) incidentsCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "incidents",
		Short: "Show what happened to the cluster: wrong and dead nodes, replacements, new leaders",
		Long: `Show what happened to the cluster, oldest first, as a majority of the nodes has it. With --follow it goes on with what happens
next, until it is interrupted; while no front end answers it waits for one. With --follow -o json each incident is a line.`,
		Example: `  demsctl incidents
  demsctl incidents --from 1000 -o json
  demsctl incidents --follow`,
		Args: cobra.NoArgs,
	}
	from := command.Flags().Uint64("from", 0, "the smallest sequence to show")
	follow := command.Flags().Bool("follow", false, "go on with new incidents until interrupted")
	interval := command.Flags().Duration("interval", time.Second, "with --follow: how often new incidents are asked for")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if *interval <= 0 {
			return fmt.Errorf("--interval %v: write a time above zero, as in 1s", *interval)
		}
		api, err := p.connect()
		if err != nil {
			return err
		}
		if *follow {
			return p.followIncidents(command.Context(), api, *from, *interval)
		}
		list, err := api.Incidents(command.Context(), *from)
		if err != nil {
			return err
		}
		return p.emit(list.Body, func(page *page) { page.rows(incidentColumns(), incidentRows(list.Incidents)) })
	}
	return command
}

// followIncidents prints incidents until it is interrupted, which is no error. That no front end answers, or the nodes have no
// majority, is what a look at incidents has to outlast.
func (p *program) followIncidents(ctx context.Context, api *client.Client, from uint64, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	layout, troubled := incidentColumns(), false
	for {
		list, err := api.Incidents(ctx, from)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			if troubled = false; len(list.Incidents) == 0 {
				break
			}
			if err := p.printIncidents(layout, list.Incidents); err != nil {
				return err
			}
			from = list.Incidents[len(list.Incidents)-1].Sequence + 1
		case !passes(err):
			return err
		case !troubled:
			troubled = true
			fmt.Fprintf(p.stderr, "demsctl: %s\ndemsctl: going on as soon as there is an answer\n", printable(err.Error()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// printIncidents prints a piece of the list: rows of one table, or a line of JSON each.
func (p *program) printIncidents(layout *columns, incidents []client.Incident) error {
	if p.output != "json" {
		page := page{colour: p.colour}
		page.rows(layout, incidentRows(incidents))
		return p.print(page.Bytes())
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for _, incident := range incidents {
		if err := encoder.Encode(incident); err != nil {
			return err
		}
	}
	return p.print(text.Bytes())
}

// incidentColumns are wide enough for what mostly comes, so that what comes later lines up with it.
func incidentColumns() *columns {
	return &columns{
		head:    []string{"TIME", "SEQ", "KIND", "NODE", "DETAIL"},
		widths:  []int{len("2026-05-10T09:30:00.125Z"), 7, len("leader-change"), 4, 0},
		numeric: []bool{false, true, false, false, false},
	}
}

func incidentRows(incidents []client.Incident) [][]cell {
	rows := make([][]cell, len(incidents))
	for i, incident := range incidents {
		rows[i] = cells(incident.Time.UTC().Format("2006-01-02T15:04:05.000Z"), incident.Sequence, incident.Kind, incident.Node, describeIncident(&incident))
		switch incident.Kind {
		case "readdition", "recovery":
			rows[i][2].colour = green
		case "accusation", "suspicion":
			rows[i][2].colour = yellow
		case "verdict", "conviction", "removal", "quarantine", "no-majority":
			rows[i][2].colour = red
		}
	}
	return rows
}

// describeIncident says in one line what happened, whose word that is and what the evidence is. What one sentence has said the
// next does not repeat.
func describeIncident(incident *client.Incident) string {
	text := ""
	add := func(sentence string) {
		if sentence = strings.Join(strings.Fields(sentence), " "); sentence == "" {
			return
		}
		if text != "" {
			text += " "
		}
		text += strings.TrimRight(sentence, ".;") + "."
	}
	add(incident.Detail)
	if index := fmt.Sprintf("index %d", incident.Index); incident.Index != 0 && !strings.Contains(text, index) {
		add("Evidence at " + index)
	}
	if incident.Expected != "" || incident.Answered != "" {
		add("Expected " + orNothing(incident.Expected) + ", answered " + orNothing(incident.Answered))
	}
	if number := fmt.Sprintf("ncarnation %d", incident.Incarnation); incident.Incarnation != 0 && !strings.Contains(text, number) {
		add("I" + number)
	}
	if incident.By == "" || strings.Contains(incident.Detail, incident.By) {
		return text
	}
	return strings.TrimSuffix(incident.By+": "+text, " ")
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

// passes tells whether a failure may be over by itself: nobody answers, or nobody knows.
func passes(err error) bool {
	status := exitStatus(err)
	return status == exitUnavailable || status == exitIndeterminate
}
