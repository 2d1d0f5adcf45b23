"""One table of people in every form, for the tests of tables."""

from __future__ import annotations

FORMS = {
    "csv": "subject,age,sex\n0012,31.5,M\nNA,28,\n1E5,n/a,F\n",
    "tsv": "subject\tage\tsex\n0012\t31.5\tM\nNA\t28\t\n1E5\tn/a\tF\n",
    "semicolon": "subject;age;sex\n0012;31.5;M\nNA;28;\n1E5;n/a;F\n",
    "quotes": '"subject","age","sex"\n"0012","31.5","M"\n"NA","28",""\n"1E5","n/a","F"\n',
    "crlf": "subject,age,sex\r\n0012,31.5,M\r\nNA,28,\r\n1E5,n/a,F\r\n",
    "cr": "subject,age,sex\r0012,31.5,M\rNA,28,\r1E5,n/a,F\r",
    "mark": "\ufeffsubject,age,sex\n0012,31.5,M\nNA,28,\n1E5,n/a,F\n",
    "no last newline": "subject,age,sex\n0012,31.5,M\nNA,28,\n1E5,n/a,F",
    "blanks and rows": "subject , age,sex\n\n 0012, 31.5 ,M\n,,\nNA,28,\n1E5,n/a,F\n\n",
    "trailing delimiter": "subject,age,sex,\n0012,31.5,M,\nNA,28,,\n1E5,n/a,F,\n",
    "trailing in rows": "subject,age,sex\n0012,31.5,M,\nNA,28,,\n1E5,n/a,F,\n",
    "R blanks": '"age" "sex"\n"0012" 31.5 "M"\n"NA" 28 NA\n"1E5" NA "F"\n',
    "R tabs": '"age"\t"sex"\n"0012"\t31.5\t"M"\n"NA"\t28\tNA\n"1E5"\tNA\t"F"\n',
    "R csv": '"","age","sex"\n"0012",31.5,"M"\n"NA",28,NA\n"1E5",NA,"F"\n',
    "blanks": "subject age sex\n0012 31.5 M\nNA 28 NA\n1E5 n/a F\n",
}


def put(folder, content, name="people.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
