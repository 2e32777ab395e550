package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dems/client/drill"
	"dems/client/drill/history"
	"dems/client/drill/report"
)

func (p *program) drillCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Check the history that a drill has kept again",
		Long: `Check a history.jsonl that a drill has kept, or the one in a folder, for linearizability, and say what the drill said. What became of the last
state of events, and what happened to the nodes, is not in a history.

Exit status: 0 linearizable; 1 not, or it could not be decided; 2 the file cannot be read.`,
		Example: `  demsctl drill check dems-drill-20260301-120000/history.jsonl
  demsctl drill check dems-drill-20260301-120000 -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, arguments []string) error {
			header, operations, err := readHistory(arguments[0])
			if err != nil {
				return err
			}
			judged := drill.Judge(command.Context(), operations)
			body, err := json.Marshal(judged.Histories)
			if err != nil {
				return err
			}
			if err := p.emit(body, func(page *page) { writeCheck(page, header, &judged) }); err != nil {
				return err
			}
			found := report.Report{Invariants: []report.Invariant{judged.Wrong, judged.Order}, Histories: judged.Histories}
			found.Measure(operations)
			if objections := found.Objections(); len(objections) > 0 {
				return &verdictError{objections}
			}
			return nil
		},
	}
}

// readHistory reads a history, or that in a folder.
func readHistory(name string) (history.Header, []history.Operation, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = filepath.Join(name, drill.HistoryFile)
	}
	file, err := os.Open(name)
	if err != nil {
		return history.Header{}, nil, err
	}
	defer file.Close()
	header, operations, err := history.Read(file)
	if err != nil {
		err = fmt.Errorf("%s is not a history that this demsctl can read: %w", name, err)
	}
	return header, operations, err
}

func writeCheck(page *page, header history.Header, judged *drill.Judgement) {
	histories, invariants := &judged.Histories, []report.Invariant{judged.Wrong, judged.Order}
	page.line("%d operations of %d groups, seed %d, %s; checked in %.1f s", histories.Operations, histories.Checked, header.Seed,
		header.Began.UTC().Format(time.RFC3339), histories.Seconds)
	var rows [][]cell
	for _, invariant := range invariants {
		rows = append(rows, []cell{{text: invariant.Name}, tally(invariant.Broken)})
	}
	page.table([]string{"INVARIANT", "BROKEN"}, append(rows, []cell{{text: "undecided"}, tally(uint64(histories.Undecided))}))
	for _, invariant := range invariants {
		if invariant.Broken > 0 {
			writeBroken(page, invariant)
		}
	}
	for _, example := range histories.Examples {
		page.line("%s", printable(example))
	}
}
