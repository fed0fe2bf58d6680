"""Homework in the browser: a page for each homework, with an editor and the checker, which Pyodide runs in a Web Worker.

    build      the pages, and all files beside them: the folder try/ of the site
    engine     our own code for the browser, one zip without any solution
    bridge     what the worker calls: text of a file in, verdicts and the tape out
    pyodide    where Python itself comes from: a content delivery network or a folder
    editor     CodeMirror, bundled into one file where npm is there
    web/       the pages' templates, style sheet and scripts
"""
