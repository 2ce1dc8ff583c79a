package audit

const noFollow = 0 // links are found before the file is opened
