# Says what files are going to meet. On standard input, a line for each: d for a directory that stays when it is there, l
# for one that stays when it is there as a link, or f for anything else, a space and the path, in which \ and newlines are
# escapes of printf. Answers with numbers of directories that stay,
# with the system's accounts, and with whose tar it has; each line begins with "vmfab:", so that it cannot be taken for another program's.
sed 's/^/vmfab:passwd:/' /etc/passwd
sed 's/^/vmfab:group:/' /etc/group
if tar --version 2>/dev/null | grep -q GNU; then
    echo vmfab:tar:gnu
fi
number=0
while IFS= read -r line; do
    path=${line#??}
    case $path in
    *\\*)
        path=$(printf '%b.' "$path")
        path=${path%.}
        ;;
    esac
    case $line in
    [dl]*)
        if [ -d "$path" ]; then
            if [ -L "$path" ] || [ "${line%% *}" = d ]; then
                echo "vmfab:there:$number"
            fi
        elif [ -e "$path" ] || [ -L "$path" ]; then
            echo "$path is no directory" >&2
            exit 1
        fi
        ;;
    *)
        if [ -d "$path" ] && [ ! -L "$path" ]; then
            echo "$path is a directory" >&2
            exit 1
        fi
        ;;
    esac
    number=$((number + 1))
done
