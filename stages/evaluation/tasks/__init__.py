"""Training on labels, for the protocols that train more than a linear classifier on features.

    loop            `train_task`: any module that gives a loss, on any data set, stopped and resumed exactly
    samples         what it trains on
    schedules       the learning rates of the published protocols, as factors of the base learning rate
    optimizers      SGD with Nesterov's momentum and rates of their own for parts of a network
    recipe          how long and how fast classifiers learn
    targets         what a classifier has to say of a photo
    pictures        whole photos with their classes, augmented as the protocols do
    classification  loss of a classifier, and its figures on test photos
    subsets         the same 1 % or 10 % of the labels on every machine
    dense           a number for each pixel: semantic segmentation, depth
    detection       boxes and masks of objects
"""  # fmt: skip
