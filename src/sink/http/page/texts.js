// Every text of the set-up page, by key. Another language is another table with the same keys; what it
// lacks is shown in English.

const TEXTS = {
  en: {
    setup: "Set-up",
    title: "Set up batteries",
    none_configured: "No battery is configured yet.",
    intro: "Search for your battery, test it, give it a name, and add it. Searching and testing only read; batteries that are already configured are left alone.",
    copy: "Copy",
    copied: "Copied",
    selected: "Selected: press Ctrl+C",
    download: "Download",
    lines: "Lines for the configuration",

    locked: "Searching is locked here",
    locked_why: "Searching and testing work on the machine that runs bms-reader, and from others with a password. Set one, restart bms-reader, and reload this page; it asks for the password.",
    locked_copy: "Or copy the lines of your battery from the list below.",
    login: "Password",
    login_why: "This page needs the password that is set as HTTP_TOKEN.",
    log_in: "Log in",

    search: "Search",
    stop: "Stop",
    search_title: "Serial ports and Bluetooth",
    searching: "Searching …",
    found_none: "Nothing found.",
    found_one: "1 device found.",
    found_many: "{count} devices found.",
    found_hint: "Is the adapter plugged in, and the battery awake? A battery does not show up while a phone app is connected to it.",
    found_hint_container: "The container must have the serial adapter (--device /dev/ttyUSB0) and, for Bluetooth, the host's D-Bus (-v /run/dbus:/run/dbus:ro).",
    serial_port: "Serial port",
    unnamed: "Unnamed device",
    probably: "probably {title}",
    possibly: "possibly {title}",
    unknown_brand: "not recognised",
    signal: "Signal {rssi} dBm",
    used_by: "In use by {name}, so it cannot be tested.",
    other_devices: "Other Bluetooth devices",
    no_bluetooth: "Bluetooth is not available",
    bridge_title: "Network adapter or other port",
    bridge_label: "Address of an RS485-to-Ethernet adapter, or path of a port",
    test: "Test",
    test_of: "Test {place}",

    test_title: "Test of {place}",
    testing: "Reading … {seconds} s. A port takes a few minutes if the brand is rare.",
    testing_others: "Looking for more batteries on the same line … {seconds} s",
    test_failed: "No battery was read",
    try_again: "Try again",
    type: "Type",
    type_auto: "find out",
    slave_id: "Address on the bus",
    slave_id_auto: "find out",
    password: "Password or PIN of the battery",
    answered_one: "The battery answers.",
    answered_many: "{count} batteries answer.",
    pack: "Battery at address {address}",
    cells: "Cells",
    add_this: "Add this battery",
    name: "Name",
    id: "ID in topics and entities",
    battery_name: "Battery {number}",
    interval: "Seconds between two reads",
    bank: "Combine them into one bank",
    bank_name: "Battery bank",
    add: "Add",
    add_restart: "Add and restart",
    show_settings: "Show the settings",
    nothing_chosen: "Choose at least one battery.",

    saving: "Saving …",
    restarting: "Saved. BMS Reader restarts …",
    restarted: "Done.",
    restart_slow: "BMS Reader has not come back yet. Its log in Home Assistant says why: Settings, Apps, BMS Reader, Log.",
    settings_title: "Finished settings",
    settings_container: "Put the lines into the file .env beside docker-compose.yml, or save the second file beside it. Then run: docker compose up -d",
    settings_host: "Put the lines into /etc/bms-reader.env. Then run: sudo systemctl restart bms-reader",
    settings_masked: "Replace *** by the password.",
    settings_obsolete: "Delete these lines: {names}",

    batteries_title: "Configured batteries",
    rename: "Rename",
    rename_of: "New name of {id}",
    remove: "Remove",
    remove_of: "Remove {id}",
    remove_sure: "Really remove",
    removed_note: "Its history and its entities in Home Assistant stay until you delete them.",

    try_title: "Just trying it out?",
    try_why: "A simulated battery needs no hardware.",
    try_name: "Simulated battery",
    try_add: "Add a simulated battery",
  },
};

const language = [...navigator.languages, "en"].map((tag) => tag.split("-")[0]).find((tag) => TEXTS[tag]);

// The text of a key, with `{name}` replaced by the value of that name.
export function t(key, values = {}) {
  const text = TEXTS[language][key] ?? TEXTS.en[key];
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}
