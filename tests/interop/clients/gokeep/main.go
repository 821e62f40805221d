// Writes rows and reads them back, with a loop that tries again, until its input ends: the Go client's part of
// test_sql_clients_kills.py, saying the same lines as keep_writing.mjs. Arguments: URL, token, a table of its own.
package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	_ "github.com/tursodatabase/libsql-client-go/libsql"
)

type line map[string]any

type program struct {
	db    *sql.DB
	table string
	out   *json.Encoder
}

func (p *program) attempt(said line, work func() error) bool {
	began := time.Now()
	err := work()
	said["ok"] = err == nil
	if err != nil {
		said["code"], said["text"] = "", err.Error()
	}
	said["ms"] = time.Since(began).Milliseconds()
	_ = p.out.Encode(said)
	return err == nil
}

type executor interface {
	Exec(query string, args ...any) (sql.Result, error)
}

func (p *program) insert(on executor, key string, attempt, part int) error {
	_, err := on.Exec("INSERT INTO "+p.table+"(key, attempt, part) VALUES(?, ?, ?)", key, attempt, part)
	return err
}

func (p *program) transaction(key string, attempt int) error {
	transaction, err := p.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = transaction.Rollback() }()
	for part := range 2 {
		if err := p.insert(transaction, key, attempt, part); err != nil {
			return err
		}
	}
	return transaction.Commit()
}

func (p *program) write(way, key string, attempt int) error {
	if way == "single" {
		return p.insert(p.db, key, attempt, 0)
	}
	return p.transaction(key, attempt)
}

func (p *program) read(said line, key string) error {
	var rows, own int
	err := p.db.QueryRow("SELECT count(*), coalesce(sum(key = ?), 0) FROM "+p.table, key).Scan(&rows, &own)
	said["rows"], said["own"] = rows, own
	return err
}

func main() {
	db, err := sql.Open("libsql", os.Args[1]+"?authToken="+os.Args[2])
	if err != nil {
		panic(err)
	}
	p := &program{db, os.Args[3], json.NewEncoder(os.Stdout)}
	var isOver atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		isOver.Store(true)
	}()
	columns := "(seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, attempt INTEGER, part INTEGER)"
	for !p.attempt(line{"way": "schema"}, func() error {
		_, err := db.Exec("CREATE TABLE IF NOT EXISTS " + p.table + columns)
		return err
	}) {
		time.Sleep(50 * time.Millisecond)
	}
	ways := []string{"single", "transaction"}
	kept := ""
	for step := 0; !isOver.Load(); step++ {
		key, way := fmt.Sprintf("k%d", step), ways[step%len(ways)]
		wait := 20 * time.Millisecond
		for number := 0; !isOver.Load(); number++ {
			said := line{"way": way, "key": key, "attempt": number}
			isKept := p.attempt(said, func() error { return p.write(way, key, number) })
			if isKept {
				kept = key
			}
			said = line{"way": "read", "key": kept}
			p.attempt(said, func() error { return p.read(said, kept) })
			if isKept {
				break
			}
			time.Sleep(wait)
			wait = min(2*wait, 300*time.Millisecond)
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = db.Close()
	_ = p.out.Encode(line{"way": "end", "ok": true, "ms": 0})
}
