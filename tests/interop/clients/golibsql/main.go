// What database/sql does over libsql-client-go. Arguments: URL, token, name of a table of its own. Prints JSON.
package main

import (
	"database/sql"
	"encoding/json"
	"log"
	"os"

	_ "github.com/tursodatabase/libsql-client-go/libsql"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

type querier interface {
	QueryRow(query string, args ...any) *sql.Row
}

func main() {
	url, token, table := os.Args[1], os.Args[2], os.Args[3]
	db, err := sql.Open("libsql", url+"?authToken="+token)
	must(err)
	found := map[string]any{}
	count := func(on querier) (n int) {
		must(on.QueryRow("SELECT count(*) FROM " + table).Scan(&n))
		return n
	}
	insert := "INSERT INTO " + table + "(name, value) VALUES(?, ?)"

	_, err = db.Exec("CREATE TABLE " + table + "(id INTEGER PRIMARY KEY, name TEXT UNIQUE, value)")
	must(err)
	inserted, err := db.Exec(insert, "first", []byte{0, 255})
	must(err)
	id, _ := inserted.LastInsertId()
	affected, _ := inserted.RowsAffected()
	found["inserted"] = []int64{affected, id}

	var name string
	var value []byte
	var big int64
	var half float64
	var absent sql.NullString
	row := db.QueryRow("SELECT name, value, ?, 0.5, NULL FROM "+table+" WHERE id = ?", int64(1)<<62+1, 1)
	must(row.Scan(&name, &value, &big, &half, &absent))
	found["values"] = []any{name, len(value), big == 1<<62+1, half, absent.Valid}

	committed, err := db.Begin()
	must(err)
	_, err = committed.Exec(insert, "committed", nil)
	must(err)
	found["inTransaction"] = count(committed)
	must(committed.Commit())
	found["afterCommit"] = count(db)

	rolledBack, err := db.Begin()
	must(err)
	_, err = rolledBack.Exec("DELETE FROM " + table)
	must(err)
	found["inRolledBack"] = count(rolledBack)
	must(rolledBack.Rollback())
	found["afterRollback"] = count(db)

	prepared, err := db.Prepare("SELECT name FROM " + table + " WHERE id = ?")
	must(err)
	must(prepared.QueryRow(2).Scan(&name))
	found["prepared"] = name

	_, err = db.Exec("SELECT * FROM there_is_no_such_table")
	found["noTable"] = err != nil
	_, err = db.Exec(insert, "first", nil)
	found["unique"] = err != nil
	found["afterErrors"] = count(db)
	must(db.Close())
	must(json.NewEncoder(os.Stdout).Encode(found))
}
