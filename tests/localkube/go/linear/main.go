// Asks porcupine whether the history of each key is linearizable.
//
// Operations come as JSON lines on standard input, one object each:
//
//	{"id": 7, "key": "r3", "client": 1, "call": 100, "return": 120, "read": "5", "write": "9"}
//
// `read` is what the key held just before (absent: not known), `write` replaces it, `append` adds
// to the end of a comma-separated list; one operation may read and change. An operation without
// `return` may have happened at any time after its call, or never. Every key begins empty.
//
// One JSON line for each key is printed: its verdict is "linearizable", "violated" or "unknown"
// (the time limit came first). Exit code 0: all are linearizable; 1: one is violated; 2: unknown;
// 3: the input is no history.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

type operation struct {
	ID     int     `json:"id"`
	Key    string  `json:"key"`
	Client int     `json:"client"`
	Call   int64   `json:"call"`
	Return *int64  `json:"return"`
	Read   *string `json:"read"`
	Write  *string `json:"write"`
	Append *string `json:"append"`
}

type verdict struct {
	Key          string  `json:"key"`
	Operations   int     `json:"operations"`
	Verdict      string  `json:"verdict"`
	Milliseconds int64   `json:"milliseconds"`
	Stuck        []int   `json:"stuck,omitempty"`
	State        *string `json:"state,omitempty"`
}

var model = porcupine.Model{
	Init: func() interface{} { return "" },
	Step: func(state, input, _ interface{}) (bool, interface{}) {
		held, wanted := state.(string), input.(operation)
		if wanted.Read != nil && *wanted.Read != held {
			return false, held
		}
		if wanted.Write != nil {
			held = *wanted.Write
		}
		if wanted.Append != nil {
			if held != "" {
				held += ","
			}
			held += *wanted.Append
		}
		return true, held
	},
}

func main() {
	limit := flag.Duration("limit", time.Minute, "time for each key")
	flag.Parse()
	histories, err := read()
	if err != nil {
		fmt.Fprintln(os.Stderr, "linear:", err)
		os.Exit(3)
	}
	keys := make([]string, 0, len(histories))
	for key := range histories {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	worst := 0
	printer := json.NewEncoder(os.Stdout)
	for _, key := range keys {
		found := judge(key, histories[key], *limit)
		if err := printer.Encode(found); err != nil {
			fmt.Fprintln(os.Stderr, "linear:", err)
			os.Exit(3)
		}
		switch {
		case found.Verdict == "violated":
			worst = 1
		case found.Verdict == "unknown" && worst == 0:
			worst = 2
		}
	}
	os.Exit(worst)
}

func read() (map[string][]porcupine.Operation, error) {
	histories := map[string][]porcupine.Operation{}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for number := 1; lines.Scan(); number++ {
		var op operation
		if err := json.Unmarshal(lines.Bytes(), &op); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if op.Key == "" {
			return nil, fmt.Errorf("line %d: no key", number)
		}
		end := int64(math.MaxInt64)
		if op.Return != nil {
			end = *op.Return
		}
		if end < op.Call {
			return nil, fmt.Errorf("line %d: returned before it was called", number)
		}
		histories[op.Key] = append(histories[op.Key], porcupine.Operation{
			ClientId: op.Client, Input: op, Call: op.Call, Output: nil, Return: end,
		})
	}
	return histories, lines.Err()
}

func judge(key string, history []porcupine.Operation, limit time.Duration) verdict {
	begun := time.Now()
	result, info := porcupine.CheckOperationsVerbose(model, history, limit)
	found := verdict{Key: key, Operations: len(history), Milliseconds: time.Since(begun).Milliseconds()}
	switch result {
	case porcupine.Ok:
		found.Verdict = "linearizable"
	case porcupine.Unknown:
		found.Verdict = "unknown"
	default:
		found.Verdict = "violated"
		found.Stuck, found.State = stuck(history, info)
	}
	return found
}

// The operations that the longest order found leaves out, in order of their calls, and what the
// key holds at its end: where a person should look first.
func stuck(history []porcupine.Operation, info porcupine.LinearizationInfo) ([]int, *string) {
	var longest []porcupine.Operation
	for _, partition := range info.PartialLinearizationsOperations() {
		for _, order := range partition {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	placed := map[int]bool{}
	var state interface{} = ""
	for _, op := range longest {
		placed[op.Input.(operation).ID] = true
		_, state = model.Step(state, op.Input, nil)
	}
	left := []porcupine.Operation{}
	for _, op := range history {
		if !placed[op.Input.(operation).ID] {
			left = append(left, op)
		}
	}
	sort.Slice(left, func(a, b int) bool { return left[a].Call < left[b].Call })
	ids := []int{}
	for _, op := range left {
		if len(ids) < 5 {
			ids = append(ids, op.Input.(operation).ID)
		}
	}
	held := state.(string)
	return ids, &held
}
